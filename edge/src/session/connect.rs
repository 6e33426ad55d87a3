//! `connect`: which application, and whether there is a cluster behind this edge.

use super::*;

use headwater_rtmp::command::ConnectRequest;
use headwater_rtmp::server::{ConnectAnswer, ConnectRejection};

impl Session {
    pub(super) fn connect(&mut self, request: &ConnectRequest) {
        let path = &request.path;
        let Some(policy) = self.worker.shared.applications().get(&path.app) else {
            info!(app = path.app, "there is no such application");
            self.refuse_connect(
                StatusCode::ConnectInvalidApp,
                format!("There is no application \"{}\" here.", path.app),
            );
            return;
        };
        // Checked with a stream of its own, so that a bad instance is refused here and not at the first publish.
        if let Err(error) = StreamName::new(
            DEFAULT_VHOST,
            &path.app,
            path.instance_or_default(),
            "stream",
        ) {
            self.refuse_connect(StatusCode::ConnectRejected, error.to_string());
            return;
        }
        self.connecting = Some(Application {
            vhost: DEFAULT_VHOST.to_owned(),
            name: path.app.clone(),
            instance: path.instance_or_default().to_owned(),
            policy: policy.clone(),
        });
        debug!(app = path.app, instance = path.instance_or_default(), agent = ?request.flash_version, enhanced = ?request.enhanced, "connect");
        if self.origin_in_reach() {
            self.finish_connect(true);
        } else {
            self.wait_for_origin();
        }
    }

    fn origin_in_reach(&self) -> bool {
        let view = self.worker.shared.upstream.cluster.view();
        let mut members = view.members().iter();
        members.any(|member| view.availability(&member.id) != Availability::Unreachable)
    }

    /// An edge that has just started, or whose origins are being replaced, waits a moment before it refuses anybody.
    fn wait_for_origin(&self) {
        let notes = self.notes.teller();
        let upstream = std::sync::Arc::clone(&self.worker.shared.upstream);
        let limit = Duration::from_millis(upstream.config.connect_wait_ms);
        tokio::task::spawn_local(async move {
            let mut changes = upstream.cluster.changes();
            let reachable = async {
                loop {
                    let view = upstream.cluster.view();
                    let mut members = view.members().iter();
                    if members
                        .any(|member| view.availability(&member.id) != Availability::Unreachable)
                    {
                        return;
                    }
                    if changes.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            // Bounded, so that it does not matter if the session is gone by then.
            let reachable = tokio::time::timeout(limit, reachable).await.is_ok();
            notes.tell(Note::Connect { reachable });
        });
    }

    pub(super) fn finish_connect(&mut self, reachable: bool) {
        let Some(application) = self.connecting.take() else {
            return;
        };
        if !reachable {
            info!("refused a client: no origin answers");
            self.refuse_connect(
                StatusCode::ProxyNotResponding,
                "No origin server answers.".to_owned(),
            );
            return;
        }
        info!(app = application.name, instance = application.instance, peer = %self.peer, "connected");
        if application.policy.peers {
            self.connection.borrow().allow_peers();
        }
        self.application = Some(application);
        let outcome = self.core.accept_connect(ConnectAnswer::default());
        self.note_failure(outcome);
    }

    fn refuse_connect(&mut self, code: StatusCode, description: String) {
        let outcome = self.core.reject_connect(ConnectRejection {
            description: Some(description),
            ..ConnectRejection::new(code)
        });
        self.note_failure(outcome);
    }
}
