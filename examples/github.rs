//! GitHub's part of the test world as a program of its own: what `make demo` runs in place of github.com.
//!
//! ```text
//! cargo run --example github
//! listening on http://127.0.0.1:40123
//! ```
//!
//! | option | |
//! | --- | --- |
//! | `--app-private-key FILE` | takes JWTs signed with this PEM key (PKCS#1 or PKCS#8) |
//! | `--app-public-key FILE` | takes JWTs that fit this PEM key |
//! | `--app-id ID` | only with this `iss`; any without it |
//! | `--installation ID=ACCOUNT` | the App is installed there, and only in accounts that are named so; without it, every installation id and account is taken |
//! | `--token-file FILE` | takes this personal access token |
//! | `--deliver-through URL` | sends the App's events there, whatever host its webhook names |
//! | `--no-app yes` | knows no App until one is made from a manifest |
//! | `--port PORT` | instead of a free one |
//!
//! Without any of the first three it knows an App of its own, whose credentials `GET /_world/app` hands out.
//! `/_world/…` changes and shows what GitHub knows: see `tests/it/http/control.rs`. The program ends on
//! SIGTERM or SIGINT, and fails if it was sent a request that GitHub would not have taken.

#[allow(dead_code, unused_imports, reason = "the tests use all of it")]
#[path = "../tests/it/http/mod.rs"]
mod http;
#[allow(dead_code, unused_imports, reason = "the tests use all of it")]
#[path = "../tests/it/model/mod.rs"]
mod model;

use std::{fs, process::ExitCode};

use http::World;
use model::app::App;

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("github: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<(), String> {
    let mut app = http::own_app();
    app.any_installation = true;
    let (mut port, mut through) = (0, None);
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(format!("{option} needs a value"))?;
        let file = || fs::read_to_string(&value).map_err(|error| format!("{option} {value}: {error}"));
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{option}: {text} is no number"));
        if option.starts_with("--app-") && app.credentials.take().is_some() {
            app.id = None;
        }
        match option.as_str() {
            "--app-private-key" => app.trust_private_key(&file()?)?,
            "--app-public-key" => app.trust_public_key(&file()?)?,
            "--app-id" => app.id = Some(number(&value)?),
            "--token-file" => {
                app.pats.insert(file()?.trim().to_owned());
            }
            "--installation" => {
                let (id, account) = value.split_once('=').ok_or("--installation takes ID=ACCOUNT")?;
                app.any_installation = false;
                app.install(account, number(id)?);
            }
            "--deliver-through" => through = Some(value),
            "--no-app" => app = App::default(),
            "--port" => port = value.parse().map_err(|_| format!("--port: {value} is no port"))?,
            _ => return Err(format!("unknown option {option}")),
        }
    }
    let world = World::serve(false, port).map_err(|error| error.to_string())?;
    *world.app() = app;
    if let Some(address) = through {
        world.deliver_through(&address);
    }
    println!("listening on {}", world.url());
    wait()?;
    let violations = world.take_violations();
    if violations.is_empty() { Ok(()) } else { Err(format!("not GitHub's API:\n{}", violations.join("\n"))) }
}

/// Until SIGTERM or SIGINT.
fn wait() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            result = tokio::signal::ctrl_c() => result.map_err(|error| error.to_string()),
        }
    })
}
