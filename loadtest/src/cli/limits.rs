//! The number of open files that the process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::CliError;

/// Files that are open besides the sockets: event queues, signals, terminal, libraries' own.
const OTHERS: u64 = 64;

/// Makes room for so many sockets: raises the soft limit up to the hard one.
pub(super) fn raise(sockets: usize) -> Result<(), CliError> {
    let needed = (sockets as u64).saturating_add(OTHERS);
    let limit = getrlimit(Resource::Nofile);
    // None means that there is no limit.
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(allowed) = limit.maximum.filter(|&maximum| maximum < needed) {
        return Err(CliError::OpenFiles { needed, allowed });
    }
    let wanted = Rlimit {
        current: Some(needed),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).map_err(|error| CliError::Start(error.into()))
}

/// Makes room for as many sockets as the system gives.
pub(super) fn raise_to_the_most() -> Result<(), CliError> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return Ok(());
    }
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, wanted).map_err(|error| CliError::Start(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_the_hard_limit_is_told_before_the_start() {
        assert!(raise(1).is_ok());
        if let Some(maximum) = getrlimit(Resource::Nofile).maximum {
            let error = raise(usize::try_from(maximum).unwrap()).unwrap_err();
            assert!(error.to_string().contains("ulimit -n"), "{error}");
        }
    }
    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_to_the_most().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
