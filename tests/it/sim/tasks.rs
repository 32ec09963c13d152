//! What tasks do: they start, or do not; their runners connect; they end, and ECS says so.

use std::rc::Rc;

use super::{
    MINUTE, SECOND, books,
    chance::{Odds, Point},
    containers::Container,
    messages::Which,
    text::{CLUSTER, time},
    world::{Ev, IDLE_TIMEOUT, Todo, World, tell},
};
use crate::model::{
    aws::{ACCOUNT, REGION},
    ecs::{self, Status},
    github::Untrue,
};

/// How it comes up, when all of them do.
const CANNOT_PULL: u8 = 8;
const NO_ADDRESSES: u8 = 9;
const REFUSED: u8 = 10;
const BROKEN: u8 = 11;
const BAD_SECRET: u8 = 12;
/// Container-minted: its container is killed, and says nothing.
const KILLED: u8 = 13;

/// How a task ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    Failed,
    CannotPull,
    NoAddresses,
    /// What its container runs ends, with that code.
    Exited(i32),
    /// `runner-init` ends, with that code.
    Quit(i32),
    /// Its container is killed.
    Killed,
    Interrupted,
    /// StopTask.
    Asked,
}

impl Ending {
    /// `stopCode`.
    pub fn code(self) -> &'static str {
        match self {
            Ending::Failed | Ending::CannotPull | Ending::NoAddresses => "TaskFailedToStart",
            Ending::Exited(_) | Ending::Quit(_) | Ending::Killed => "EssentialContainerExited",
            Ending::Interrupted => "SpotInterruption",
            Ending::Asked => "UserInitiated",
        }
    }

    /// `stoppedReason`.
    pub fn reason(self) -> &'static str {
        match self {
            Ending::Failed => "ResourceInitializationError: unable to pull secrets or registry auth",
            Ending::CannotPull => {
                "CannotPullContainerError: failed to resolve ref registry.example/runner:1: 503 Service Unavailable"
            }
            Ending::NoAddresses => {
                "Unexpected EC2 error while attempting to Create Network Interface with public IP assignment \
                 disabled in subnet 'subnet-1': InsufficientFreeAddressesInSubnet"
            }
            Ending::Exited(_) | Ending::Quit(_) | Ending::Killed => "Essential container in task exited",
            Ending::Interrupted => "Your Spot Task was interrupted.",
            Ending::Asked => "it was asked to stop",
        }
    }

    pub fn exit(self) -> Option<i32> {
        match self {
            Ending::Failed | Ending::CannotPull | Ending::NoAddresses => None,
            Ending::Exited(code) | Ending::Quit(code) => Some(code),
            Ending::Interrupted | Ending::Killed => Some(137),
            Ending::Asked => Some(143),
        }
    }
}

impl World {
    /// ECS has accepted a task: how will it come up?
    pub fn launch(&mut self, id: u64) {
        let Some(task) = self.ecs.task(id) else { return };
        let spot = if is_spot(task) { 300 } else { 20 };
        let job = self.books.task(id).map_or(0, |task| task.job);
        let killed = if self.settings.container_minted { 60 } else { 0 };
        let odds: [Odds; 8] =
            [(1, 400), (2, 100), (3, spot), (4, 40), (5, 60), (6, spot), (7, spot), (KILLED, killed)];
        let boot = match self.decide(job, Point::Boot, &odds) {
            _ if self.is_out(self.settings.rates.registry_down, 14) => CANNOT_PULL,
            _ if self.is_out(self.settings.rates.no_addresses, 15) => NO_ADDRESSES,
            _ if self.is_out(self.settings.rates.refused, 16) => REFUSED,
            _ if self.is_out(self.settings.rates.broken, 17) => BROKEN,
            _ if self.is_out(self.settings.rates.bad_secret, 19) => BAD_SECRET,
            boot => boot,
        };
        let lag = match self.decide(job, Point::ListLag, &[(1, 300)]) {
            0 => self.takes(0, 2 * SECOND, 6, id),
            _ => 40 * SECOND,
        };
        self.ecs.list_from(id, time(self.now + lag));
        if let Some(task) = self.books.task_mut(id) {
            task.boot = boot;
        }
        let start_up = self.takes(25 * SECOND, 75 * SECOND, 7, id) + self.provisioning(id);
        let ending = match boot {
            1 => Ending::Failed,
            CANNOT_PULL => Ending::CannotPull,
            NO_ADDRESSES => Ending::NoAddresses,
            _ => return self.after(start_up, Ev::Started(id)),
        };
        tell!(self, job, "task {id} will fail to start");
        self.after(start_up, Ev::End(id, ending));
    }

    pub(super) fn started(&mut self, id: u64) -> Todo {
        let Some(task) = self.unstopped(id) else { return Todo::Nothing };
        let (job, boot) = (task.job, task.boot);
        self.ecs.start(id, self.time());
        if !self.settings.container_minted {
            self.runner_starts(id);
            return Todo::Nothing;
        }
        match boot {
            BAD_SECRET => {
                tell!(self, job, "the container of task {id} finds no token in its secret");
                self.after(SECOND, Ev::End(id, Ending::Quit(80)));
                return Todo::Nothing;
            }
            KILLED => {
                tell!(self, job, "the container of task {id} is killed");
                let after = self.takes(SECOND, 2 * MINUTE, 39, id);
                self.after(after, Ev::End(id, Ending::Killed));
            }
            // Perhaps in the middle of its mint.
            3 => {
                tell!(self, job, "task {id} is interrupted before its runner connects");
                let after = self.takes(100, 2 * SECOND, 39, id);
                self.after(after, Ev::End(id, Ending::Interrupted));
            }
            _ => {}
        }
        self.containers.insert(id, Container::default());
        Todo::Container(id)
    }

    /// The container has a JIT configuration, and starts the runner.
    pub(super) fn runner_starts(&mut self, id: u64) {
        let Some(task) = self.unstopped(id) else { return };
        let (job, boot) = (task.job, task.boot);
        let slow = self.takes(IDLE_TIMEOUT + 30 * SECOND, IDLE_TIMEOUT + 6 * MINUTE, 8, id);
        let connects = self.takes(4 * SECOND, 12 * SECOND, 9, id);
        match boot {
            2 | BROKEN => {
                tell!(self, job, "task {id} exits 0 without having run anything");
                self.after(3 * SECOND, Ev::End(id, Ending::Exited(0)));
            }
            3 if self.settings.container_minted => {}
            3 => {
                tell!(self, job, "task {id} is interrupted before its runner connects");
                self.after(2 * SECOND, Ev::End(id, Ending::Interrupted));
            }
            4 => tell!(self, job, "the runner of task {id} hangs, and never connects"),
            REFUSED => {
                tell!(self, job, "GitHub refuses the runner of task {id}");
                self.after(3 * SECOND, Ev::End(id, Ending::Exited(7)));
            }
            5 => {
                tell!(self, job, "the runner of task {id} is slow to connect");
                self.after(slow, Ev::Connect(id));
            }
            _ => self.after(connects, Ev::Connect(id)),
        }
    }

    pub(super) fn connect(&mut self, id: u64) {
        let Some(task) = self.unstopped(id) else { return };
        let (job, boot, registration) = (task.job, task.boot, task.registration);
        if !self.github.connect(registration, self.time()) {
            tell!(self, job, "the runner of task {id} finds its registration gone, and exits");
            self.after(SECOND, Ev::End(id, Ending::Exited(0)));
            return;
        }
        if let Some(it) = self.books.registration_mut(registration) {
            it.online_at = self.now;
        }
        tell!(self, job, "runner {} connects", self.github.runner(registration).map_or("", |it| &it.name));
        let delay = self.takes(300, 1_500, 10, id);
        self.after(delay, Ev::AssignRunner(registration));
        if self.decide(job, Point::Unlisted, &[(1, self.settings.rates.unlisted)]) == 1 {
            tell!(self, job, "lists will not show the runner of task {id} for a minute");
            let begins = self.takes(0, 4 * MINUTE, 23, id);
            self.after(begins, Ev::Say(registration, Untrue { unlisted: true, ..Untrue::default() }));
            self.after(begins + MINUTE, Ev::Say(registration, Untrue::default()));
        }
        let interrupted = match boot {
            6 => Some(self.takes(100, 3_000, 11, id)),
            7 => Some(self.takes(10_000, 90_000, 11, id)),
            _ => None,
        };
        if let Some(after) = interrupted {
            self.after(after, Ev::End(id, Ending::Interrupted));
        }
    }

    /// The processes of a task end.
    pub fn end(&mut self, id: u64, ending: Ending) {
        let Some(task) = self.unstopped(id) else { return };
        let (job, registration) = (task.job, task.registration);
        let exit = self.exit_code(id, ending);
        self.ecs.stopped(id, ending.code(), ending.reason(), exit, self.time());
        self.ecs.take_changes();
        tell!(self, job, "task {id} stops: {}", self.stop_code(id));
        self.note_end(id);
        if let Some(busy) = self.github.runner(registration).map(|runner| runner.job) {
            self.github.disconnect(registration, self.time());
            if let Some(busy) = busy {
                self.goes_with_its_runner(busy, ending);
                // GitHub waits about ten minutes for a runner to come back.
                self.after(10 * MINUTE, Ev::Notice(busy));
            }
        }
        let delay = self.takes(2 * SECOND, 20 * SECOND, 12, id);
        let event = Ev::Bus(Which::Lifecycle, self.state_change(id), job);
        match self.decide(job, Point::StoppedEvent, &[(1, 200), (2, 200), (3, 100), (4, 20)]) {
            0 => self.after(delay, event),
            1 => {
                self.after(delay, event.clone());
                self.after(delay + 3 * SECOND, event);
            }
            2 => {
                tell!(self, job, "the event that task {id} has stopped never comes");
                self.runs.stops_unheard(registration);
            }
            3 => self.after(12 * MINUTE, event),
            _ => {
                self.after(70 * MINUTE, event);
                self.runs.stops_unheard(registration);
            }
        }
    }

    /// The event that says so.
    fn state_change(&self, id: u64) -> Rc<str> {
        let Some(task) = self.ecs.task(id) else { return "".into() };
        let started = match task.started_at {
            Some(_) => "\"startedAt\":\"2026-01-01T00:00:00Z\",",
            None => "",
        };
        let exit = task.exit_code.map_or(String::new(), |exit| format!("\"exitCode\":{exit},"));
        let body = format!(
            "{{\"source\":\"aws.ecs\",\"detail-type\":\"ECS Task State Change\",\"detail\":{{\"taskArn\":\"{}\",\
             \"clusterArn\":\"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{CLUSTER}\",\"lastStatus\":\"STOPPED\",\
             \"startedBy\":\"{}\",{started}\"stopCode\":\"{}\",\"stoppedReason\":\"{}\",\
             \"containers\":[{{{exit}\"name\":\"runner\"}}]}}}}",
            task.arn,
            task.started_by,
            self.stop_code(id),
            task.stopped_reason.as_deref().unwrap_or_default(),
        );
        body.into()
    }

    fn stop_code(&self, id: u64) -> &str {
        self.ecs.task(id).and_then(|task| task.stop_code.as_deref()).unwrap_or_default()
    }

    /// The task, as long as it has not stopped.
    fn unstopped(&self, id: u64) -> Option<&books::Task> {
        self.ecs.task(id).filter(|task| task.status != Status::Stopped).and_then(|_| self.books.task(id))
    }
}

/// Whether it runs on Spot.
pub fn is_spot(task: &ecs::Task) -> bool {
    task.launch.provider() == "FARGATE_SPOT"
}
