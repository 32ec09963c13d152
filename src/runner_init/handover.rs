//! One secret from one process image to the next, past everything a job could read later.

use std::{
    convert::Infallible,
    env,
    ffi::{CString, NulError, OsStr, OsString},
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
};

use nix::{
    errno::Errno,
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl,
        signal::{SigSet, Signal},
    },
    unistd::{close, execve},
};
use secrecy::{ExposeSecret, SecretString};

use super::{broken, settings::ACCESS_TOKEN};
use crate::flows::container::Exit;

type Environment = Vec<(OsString, OsString)>;

/// The environment without the token, however often that is in it, and the token.
pub(super) fn split(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> (Environment, Option<SecretString>) {
    let (token, environment): (Environment, Environment) =
        variables.partition(|(name, _)| name == OsStr::new(ACCESS_TOKEN));
    // The first one, as getenv(3) would find it. What is not UTF-8 is no token either, and is reported as such.
    let token = token.into_iter().next().map(|(_, value)| value.to_string_lossy().into_owned().into());
    (environment, token)
}

/// Makes this process unreadable for others of the same user: prctl(2), PR_SET_DUMPABLE. `execve` undoes it.
pub(super) fn hide() -> nix::Result<()> {
    prctl::set_dumpable(false)
}

/// Closes what was inherited besides the three standard descriptors and `handover`. A container runtime should
/// leave nothing open, but has (CVE-2024-21626), and a job would inherit it in turn.
pub(super) fn close_others(handover: Option<RawFd>) -> io::Result<()> {
    let descriptors = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect::<Vec<RawFd>>();
    for descriptor in descriptors.into_iter().filter(|fd| *fd > 2 && Some(*fd) != handover) {
        match close(descriptor) {
            // The one that read the directory, which is closed by now.
            Ok(()) | Err(Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The signals that end a container in order.
pub(super) fn stop_signals() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT])
}

/// Makes them wait: blocked signals stay pending, for process 1 as well, and survive `execve` (signal(7)).
pub(super) fn hold_signals() -> nix::Result<()> {
    stop_signals().thread_block()
}

/// Executes this program again in the given stage with the secret in an anonymous file, whose descriptor is
/// the one thing inherited. Returns only if that failed.
pub(super) fn execute(stage: &str, secret: &SecretString, environment: &[(OsString, OsString)]) -> Exit {
    match try_execute(stage, secret, environment) {
        Ok(never) => match never {},
        Err(error) => broken("execve of runner-init itself", error),
    }
}

fn try_execute(
    stage: &str,
    secret: &SecretString,
    environment: &[(OsString, OsString)],
) -> io::Result<Infallible> {
    let c_string =
        |bytes: Vec<u8>| CString::new(bytes).map_err(|error: NulError| io::Error::other(error.to_string()));
    // Where the program lies, not /proc/self/exe: that would become its name in `ps`.
    let program = c_string(env::current_exe()?.into_os_string().into_vec())?;
    let variables = environment
        .iter()
        .map(|(name, value)| c_string([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect::<io::Result<Vec<_>>>()?;
    // Without MFD_CLOEXEC, on purpose: the next stage closes it first thing.
    let file = memfd_create("handover", MFdFlags::empty())?;
    let descriptor = file.as_raw_fd();
    write(file.try_clone()?, secret)?;
    let arguments =
        [program.clone(), c_string(stage.into())?, c_string(descriptor.to_string().into_bytes())?];
    Ok(execve(&program, &arguments, &variables)?)
}

/// Writes through a duplicate that is closed at `execve` and on return; the original stays open.
fn write(file: OwnedFd, secret: &SecretString) -> io::Result<()> {
    File::from(file).write_all(secret.expose_secret().as_bytes())
}

/// Reads the secret that the stage before left under this descriptor, and closes it, which frees its memory.
pub(super) fn take(descriptor: RawFd) -> io::Result<SecretString> {
    // A process may always open its own descriptors in /proc; this gives a new one, which starts at the
    // beginning and has an owner.
    let path = format!("/proc/self/fd/{descriptor}");
    // Nobody can put a process's own descriptor there but an earlier stage; anything else is a mistake.
    if !fs::read_link(&path)?.as_os_str().as_bytes().starts_with(b"/memfd:handover") {
        return Err(Errno::EBADF.into());
    }
    let mut file = File::open(path)?;
    close(descriptor)?;
    let mut text = String::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or_default());
    file.read_to_string(&mut text)?;
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_copy_of_the_token_is_taken_out() {
        let variables = [
            ("A", "1"),
            ("ACCESS_TOKEN", "first"),
            ("B", "2"),
            ("ACCESS_TOKEN", "second"),
            ("ACCESS_TOKEN_", "3"),
        ];
        let (environment, token) =
            split(variables.map(|(name, value)| (name.into(), value.into())).into_iter());
        assert_eq!(token.expect("a token").expose_secret(), "first");
        let names: Vec<_> = environment.iter().map(|(name, _)| name.to_str().expect("UTF-8")).collect();
        assert_eq!(names, ["A", "B", "ACCESS_TOKEN_"]);
    }
}
