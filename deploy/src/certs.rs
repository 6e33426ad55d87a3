//! `headwater certs`: an authority for a cluster that has none, and the certificates of its nodes.

use std::io::{self, Write};

use headwater_cluster::NodeId;
use headwater_cluster::certs::{CertsError, Written, create_authority, issue};
use headwater_cluster::member::MemberError;

use crate::cli::CertsCommand;

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Id(#[from] MemberError),
    #[error(transparent)]
    Certs(#[from] CertsError),
    #[error("cannot write to standard output: {0}")]
    Output(#[from] io::Error),
}

/// Makes what was asked for, and says which files it wrote.
pub(crate) fn run(command: CertsCommand) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    match command {
        CertsCommand::Init { files, days } => {
            let written = create_authority(&files.dir, days, files.force)?;
            report(&mut output, &written)?;
            writeln!(
                output,
                "give every node {}; keep {} to yourself",
                written.certificate.display(),
                written.key.display()
            )?;
        }
        CertsCommand::Node {
            id,
            files,
            names,
            addresses,
            days,
        } => {
            let mut all = names;
            all.extend(addresses.iter().map(ToString::to_string));
            let written = issue(&files.dir, &NodeId::new(&id)?, &all, days, files.force)?;
            report(&mut output, &written)?;
        }
    }
    Ok(())
}

fn report(output: &mut impl Write, written: &Written) -> io::Result<()> {
    writeln!(output, "wrote {}", written.certificate.display())?;
    writeln!(output, "wrote {}", written.key.display())
}
