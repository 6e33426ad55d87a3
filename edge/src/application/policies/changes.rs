//! The call to some origin that says which applications may have changed, opened again for as long as the process lives.

use std::time::Duration;

use headwater_cluster::{NodeId, ring};
use headwater_media::name::{DEFAULT_INSTANCE, DEFAULT_VHOST, InstanceName, StreamName};
use headwater_proto::v1;
use headwater_proto::v1::application_client::ApplicationClient;
use tonic::{Code, Request, Streaming};
use tracing::{debug, info};

use super::Policies;
use super::ask::in_reach;
use crate::upstream::{Pause, Upstream};

/// How long an origin may take to answer. It does so at once.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait where all origins are too old to know of applications: they are replaced one by one, which takes minutes.
const TOO_OLD_PAUSE: Duration = Duration::from_secs(5);

/// Why a call ended, or was not opened.
enum End {
    TooOld,
    Broken,
}

pub(super) async fn follow(policies: Policies) {
    let upstream = &policies.0.upstream;
    // Edges spread themselves over origins.
    let edge = if upstream.node.is_empty() {
        "edge"
    } else {
        &upstream.node
    };
    let Ok(name) = InstanceName::new(DEFAULT_VHOST, edge, DEFAULT_INSTANCE) else {
        return;
    };
    let (name, mut pause) = (name.key(), Pause::new());
    loop {
        let nodes = in_reach(upstream, &name);
        let mut too_old = 0;
        for node in &nodes {
            let end = serve(&policies, node, &name, &mut pause).await;
            *policies.0.listening.lock() = None;
            match end {
                End::TooOld => too_old += 1,
                End::Broken => break,
            }
        }
        if !nodes.is_empty() && too_old == nodes.len() {
            tokio::time::sleep(TOO_OLD_PAUSE).await;
        } else {
            pause.wait(upstream).await;
        }
    }
}

async fn serve(policies: &Policies, node: &NodeId, name: &StreamName, pause: &mut Pause) -> End {
    let upstream = &policies.0.upstream;
    let opened = tokio::select! {
        opened = tokio::time::timeout(OPEN_TIMEOUT, open(upstream, node, name)) => opened,
        () = upstream.lost(node) => return End::Broken,
    };
    let (mut answers, first) = match opened {
        Ok(Ok(opened)) => opened,
        Ok(Err(end)) => return end,
        Err(_) => {
            debug!(%node, "an origin does not say in time what has changed");
            return End::Broken;
        }
    };
    debug!(%node, "an origin says which applications change");
    pause.reset();
    *policies.0.listening.lock() = Some(node.clone());
    policies.changed(&first, true);
    loop {
        let answer = tokio::select! {
            answer = answers.message() => answer,
            () = upstream.lost(node) => return End::Broken,
        };
        match answer {
            Ok(Some(said)) => policies.changed(&said, false),
            Ok(None) => return End::Broken,
            Err(status) => {
                info!(%node, %status, "the call that says which applications change broke: what is known holds until there is another");
                upstream.cluster.report_failure(node);
                return End::Broken;
            }
        }
    }
}

async fn open(
    upstream: &Upstream,
    node: &NodeId,
    name: &StreamName,
) -> Result<(Streaming<v1::ChangesResponse>, v1::ChangesResponse), End> {
    let channel = upstream.cluster.channel(node, ring::stream_hash(name));
    let channel = channel.map_err(|_| End::Broken)?;
    let request = Request::new(v1::ChangesRequest {
        edge: upstream.node.clone(),
    });
    let answers = ApplicationClient::new(channel).changes(request).await;
    let mut answers = match answers {
        Ok(answers) => answers.into_inner(),
        Err(status) if status.code() == Code::Unimplemented => return Err(End::TooOld),
        Err(status) => {
            debug!(%node, %status, "an origin does not say what changes");
            upstream.cluster.report_failure(node);
            return Err(End::Broken);
        }
    };
    match answers.message().await {
        Ok(Some(first)) => Ok((answers, first)),
        Ok(None) => Err(End::Broken),
        // Where the server has no such method, the status may come behind the headers.
        Err(status) if status.code() == Code::Unimplemented => Err(End::TooOld),
        Err(_) => Err(End::Broken),
    }
}
