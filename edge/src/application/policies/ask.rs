//! One question what an application allows, to whichever origin answers.

use std::time::Duration;

use headwater_cluster::{Availability, NodeId, ring};
use headwater_media::name::{DEFAULT_INSTANCE, InstanceName, StreamName};
use headwater_node::telemetry::propagation;
use headwater_proto::v1;
use headwater_proto::v1::application_client::ApplicationClient;
use tonic::{Code, Request};
use tracing::debug;

use super::{Answer, Application};
use crate::upstream::{Pause, Upstream};

/// How long an origin may take for an answer. It has it in memory, or reads a small file.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// What one origin has answered.
enum Said {
    Answer(v1::policy_response::Response),
    TooOld,
    Nothing,
}

/// Asks until an origin answers, for as long as a client waits for one. `has_last`: something is known, so that one
/// round is enough. `first` is asked before all others.
pub(super) async fn ask(
    upstream: &Upstream,
    application: &Application,
    first: Option<NodeId>,
    has_last: bool,
) -> Answer {
    let (vhost, app) = (application.vhost(), application.name());
    // Spreads applications over origins.
    let Ok(name) = InstanceName::new(vhost, app, DEFAULT_INSTANCE) else {
        return Answer::Nothing;
    };
    let (name, mut pause) = (name.key(), Pause::new());
    let asking = async {
        loop {
            let (mut asked, mut too_old) = (0, 0);
            let mut nodes = in_reach(upstream, &name);
            // The order of the others stays.
            nodes.sort_by_key(|node| Some(node) != first.as_ref());
            for node in nodes {
                asked += 1;
                match call(upstream, &node, &name).await {
                    Said::Answer(answer) => return Answer::Said(answer),
                    Said::TooOld => too_old += 1,
                    Said::Nothing => {}
                }
            }
            if asked > 0 && asked == too_old {
                return Answer::TooOld;
            }
            if has_last {
                return Answer::Nothing;
            }
            pause.wait(upstream).await;
        }
    };
    let limit = Duration::from_millis(upstream.config.connect_wait_ms).max(CALL_TIMEOUT);
    let answer = tokio::time::timeout(limit, asking).await;
    answer.unwrap_or(Answer::Nothing)
}

pub(super) fn in_reach(upstream: &Upstream, name: &StreamName) -> Vec<NodeId> {
    let view = upstream.cluster.view();
    let candidates = view.candidates(name).into_iter();
    candidates
        .map(|member| member.id.clone())
        .filter(|id| view.availability(id) != Availability::Unreachable)
        .collect()
}

async fn call(upstream: &Upstream, node: &NodeId, name: &StreamName) -> Said {
    let Ok(channel) = upstream.cluster.channel(node, ring::stream_hash(name)) else {
        return Said::Nothing;
    };
    upstream.metrics.applications.describes.inc();
    let mut request = Request::new(v1::PolicyRequest {
        vhost: name.vhost.clone(),
        app: name.app.clone(),
    });
    propagation::inject(request.metadata_mut());
    let mut client = ApplicationClient::new(channel);
    let answer = tokio::time::timeout(CALL_TIMEOUT, client.describe(request)).await;
    match answer {
        Ok(Ok(answer)) => match answer.into_inner().response {
            Some(answer) => Said::Answer(answer),
            None => Said::Nothing,
        },
        Ok(Err(status)) if status.code() == Code::Unimplemented => Said::TooOld,
        Ok(Err(status)) => {
            debug!(%node, %status, "an origin does not say what an application allows");
            upstream.cluster.report_failure(node);
            Said::Nothing
        }
        Err(_) => {
            debug!(%node, "an origin does not say in time what an application allows");
            Said::Nothing
        }
    }
}
