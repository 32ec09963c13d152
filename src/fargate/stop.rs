//! How a task ended, as ECS tells it: in DescribeTasks, and in its task state change events.

use serde::Deserialize;
use time::OffsetDateTime;

use crate::exit::ExitReason;

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stop {
    /// Whether its containers ever started.
    pub started: bool,
    /// `stopCode`, e.g. `SpotInterruption`.
    pub code: Option<String>,
    /// `stoppedReason`, a sentence.
    pub reason: Option<String>,
    /// The exit code of the runner's container.
    pub exit_code: Option<i64>,
    /// What ECS says of a container beside that, e.g. that its image could not be pulled or its memory was used up.
    pub container_reason: Option<String>,
    /// The image of that container, or of the runner's.
    pub image: Option<String>,
    /// When it began to stop, as DescribeTasks says: the container got its SIGTERM.
    pub stopping_at: Option<OffsetDateTime>,
    /// When it had stopped, as DescribeTasks says.
    pub stopped_at: Option<OffsetDateTime>,
}

/// What ECS tells of one container of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Its name in the task definition.
    pub name: Option<String>,
    /// `exitCode`, if it ran and has ended.
    pub exit_code: Option<i64>,
    /// `reason`, a sentence.
    pub reason: Option<String>,
    /// Its image.
    pub image: Option<String>,
}

/// Of what a job was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Fargate Spot took the task back.
    Interrupted,
    /// Its memory was used up.
    OutOfMemory,
    /// Anything else.
    Otherwise,
}

impl Stop {
    /// With what its containers tell. Beside the runner's there may be others, in any order: the task definition's, and
    /// AWS's own. Where nobody says which is `runner`, several say nothing of an exit code.
    pub fn with_containers(self, containers: &[Container], runner: Option<&str>) -> Self {
        let own = match (runner, containers) {
            (Some(_), _) => containers.iter().find(|it| it.name.as_deref() == runner),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let exit_code = own.and_then(|it| it.exit_code);
        // What is told of another may be why the runner's ended.
        let told = own.into_iter().chain(containers).find(|it| it.reason.is_some());
        let shown = if exit_code.is_some() { own } else { told.or(own) };
        Stop {
            exit_code,
            container_reason: told.and_then(|it| it.reason.clone()),
            image: shown.and_then(|it| it.image.clone()),
            ..self
        }
    }

    /// Why it stopped, for people.
    pub fn why(&self) -> String {
        let part = |text: &Option<String>| text.clone().unwrap_or_else(|| "none given".to_owned());
        let exit_code = self.exit_code.map_or_else(|| "none".to_owned(), |code| code.to_string());
        let container = self.container_reason.iter().filter(|&it| Some(it) != self.reason.as_ref());
        let container: String = container.map(|reason| format!("; {reason}")).collect();
        // Only where it is to be mended.
        let image = self.image.iter().filter(|_| self.fix().is_some());
        let image: String = image.map(|image| format!("; image {image}")).collect();
        format!("{} ({}), exit code {exit_code}{container}{image}", part(&self.reason), part(&self.code))
    }

    /// Whether it had no job, or may have had none, by what ECS alone knows: for container-minted runners, whose
    /// registration this system cannot look at.
    pub fn owes_a_runner(&self) -> bool {
        !self.started || self.exit().is_none_or(ExitReason::owes_a_runner)
    }

    /// Whether no job came for as long as the container waited (container-minted only).
    pub fn was_idle(&self) -> bool {
        self.exit() == Some(ExitReason::Idle)
    }

    /// Whether a job ran on it, by what its container says.
    pub fn tells_of_a_job(&self) -> bool {
        let exit = self.exit().filter(|_| self.started);
        matches!(exit, Some(ExitReason::Ended(0..=128) | ExitReason::Stopped | ExitReason::Hung))
    }

    /// Whether another container had registered a runner of its name.
    pub fn is_of_a_twin(&self) -> bool {
        self.exit() == Some(ExitReason::NameTaken)
    }

    /// How the installation is to be mended, when it is its fault and not the job's: the next task would end the
    /// same way.
    pub fn fix(&self) -> Option<&'static str> {
        if let Some(exit) = self.exit().filter(|exit| exit.needs_operator()) {
            return Some(match exit {
                ExitReason::VersionDeprecated => {
                    "GitHub gives this runner's version no jobs: deploy an image with the newest one \
                     (RunnerImage, or build image/ again)"
                }
                ExitReason::Configuration | ExitReason::Refused => {
                    "mend the task definition's environment or the secret; the container's log says which"
                }
                _ => "the image has no such command: mend the image, or the task definition's command",
            });
        }
        // ECS's error types for a task that could not start
        // (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>).
        let reasons = [&self.reason, &self.container_reason];
        let cannot_pull = reasons.into_iter().flatten().any(|text| text.contains("CannotPullContainer"));
        // Of a container that nothing waits for, if the runner's ran.
        (cannot_pull && self.exit_code.is_none())
            .then_some("the image cannot be pulled: check its name, the registry and the way to it")
    }

    /// Whether the job may have had a part in it: its containers started, and it is plainly neither the installation's
    /// fault nor GitHub's nor Spot's.
    pub fn job_may_be_at_fault(&self) -> bool {
        self.started
            && self.fix().is_none()
            && self.exit() != Some(ExitReason::Unavailable)
            && self.lost() != Lost::Interrupted
    }

    /// Whether its container says that the job was over before it.
    pub fn ended_in_order(&self) -> bool {
        matches!(self.exit(), Some(ExitReason::Ended(0) | ExitReason::Hung))
    }

    /// What a job that went with it is counted as.
    pub fn lost(&self) -> Lost {
        let says = |word: &str| {
            [&self.reason, &self.container_reason].into_iter().flatten().any(|text| text.contains(word))
        };
        match self.code.as_deref() {
            Some("SpotInterruption" | "TerminationNotice" | "InfrastructureHealth") => Lost::Interrupted,
            // The code has been missing, and another one.
            _ if says("Spot Task was interrupted") => Lost::Interrupted,
            _ if says("OutOfMemory") => Lost::OutOfMemory,
            _ => Lost::Otherwise,
        }
    }

    /// What its exit code means.
    pub(crate) fn exit(&self) -> Option<ExitReason> {
        self.exit_code.and_then(|code| u8::try_from(code).ok()).map(ExitReason::from_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_containers_the_runner_s_tells() {
        let container = |name: &str, exit_code, reason: Option<&str>| Container {
            name: Some(name.to_owned()),
            exit_code,
            reason: reason.map(str::to_owned),
            image: Some(format!("{name}:1")),
        };
        let of = |name, code| container(name, code, None);
        let (unpulled, memory) = (Some("CannotPullContainerError: not found"), Some("OutOfMemoryError"));
        // Containers; which is the runner's; exit code, reason, image.
        let table = [
            (vec![of("runner", Some(7))], None, (Some(7), None, "runner:1")),
            (
                vec![of("prepare", Some(0)), of("runner", Some(7))],
                Some("runner"),
                (Some(7), None, "runner:1"),
            ),
            (vec![of("prepare", Some(0)), of("runner", None)], Some("runner"), (None, None, "runner:1")),
            (vec![of("prepare", Some(0)), of("runner", Some(7))], None, (None, None, "")),
            (vec![of("prepare", Some(0))], Some("runner"), (None, None, "")),
            (
                vec![container("docker", None, unpulled), of("runner", None)],
                Some("runner"),
                (None, unpulled, "docker:1"),
            ),
            (
                vec![container("docker", Some(137), memory), of("runner", Some(143))],
                Some("runner"),
                (Some(143), memory, "runner:1"),
            ),
        ];
        for (containers, name, (exit_code, reason, image)) in table {
            let stop = Stop::default().with_containers(&containers, name);
            let told = (stop.exit_code, stop.container_reason.as_deref(), stop.image.unwrap_or_default());
            assert_eq!(told, (exit_code, reason, image.to_owned()), "{name:?} of {containers:?}");
        }
    }

    #[test]
    fn whose_fault_it_may_be() {
        let stop = Stop { started: true, exit_code: Some(1), ..Stop::default() };
        assert!(stop.job_may_be_at_fault());
        let spot = Some("SpotInterruption".to_owned());
        assert!(!Stop { code: spot, ..stop.clone() }.job_may_be_at_fault());
        // The code of other years, and none at all.
        let (notice, reason) =
            (Some("TerminationNotice"), Some("Your Spot Task was interrupted.".to_owned()));
        for code in [notice, None, Some("EssentialContainerExited")] {
            let (code, reason) = (code.map(str::to_owned), reason.clone());
            let stop = Stop { code, reason, ..stop.clone() };
            assert!(!stop.job_may_be_at_fault() && stop.lost() == Lost::Interrupted);
        }
        // A container of AWS's own, which nothing waits for.
        let unpulled = Some("CannotPullContainerError".to_owned());
        assert!(Stop { container_reason: unpulled.clone(), ..stop.clone() }.job_may_be_at_fault());
        assert!(!Stop { container_reason: unpulled, exit_code: None, ..stop }.job_may_be_at_fault());
    }
}
