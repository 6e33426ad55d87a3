//! `connect`: which application, whether it lets the client in, and whether there is a cluster behind this edge.
//!
//! ```text
//!          known              without handler        an origin is in reach
//! connect ------> judged ---------------------------+----------------------> connected
//!    | asks an origin ^   | with handler            | waits for one
//!    `----------------'   `---> said to the owner of the instance, pending ---> as it decides
//! ```
//! What the client sends meanwhile waits in the protocol core, which bounds it.

use super::*;

use headwater_amf::Value;
use headwater_application::app_file;
use headwater_cluster::Availability;
use headwater_proto::v1;
use headwater_rtmp::command::ConnectRequest;
use headwater_rtmp::server::{ConnectAnswer, ConnectRejection};

use crate::application::attachment::{Refusal, Said};
use crate::application::policies::Verdict;
use crate::application::values;

/// How long an origin may take for its own part in a decision, beside what its handler takes.
const ORIGIN_TIME: Duration = Duration::from_secs(2);

/// A client that waits to be let in.
pub(super) struct Connecting {
    request: Box<ConnectRequest>,
    name: InstanceName,
    known: Arc<policies::Application>,
}

impl Session {
    pub(super) async fn connect(&mut self, request: Box<ConnectRequest>) {
        let path = &request.path;
        let queries = [request.tc_url_query.as_deref(), path.query.as_deref()];
        let shared = Arc::clone(&self.worker.shared);
        let vhost = shared.virtual_hosts.find(&request.vhost, queries);
        if app_file(vhost, &path.app).is_none() {
            self.refuse_unknown(&path.app);
            return;
        }
        let name = match InstanceName::new(vhost, &path.app, path.instance_or_default()) {
            Ok(name) => name,
            Err(error) => {
                self.refuse_connect(StatusCode::ConnectRejected, error.to_string());
                return;
            }
        };
        debug!(instance = %name, agent = ?request.flash_version, enhanced = ?request.enhanced, "connect");
        let known = shared.policies.look_up(vhost, &path.app);
        let verdict = known.verdict();
        self.connecting = Some(Box::new(Connecting {
            request,
            name,
            known: Arc::clone(&known),
        }));
        match verdict {
            Some(verdict) => self.judged(verdict).await,
            None => {
                let notes = self.notes.teller();
                // Ends with the question, which is bounded.
                tokio::task::spawn_local(async move {
                    notes.tell(Note::Judged(known.settled().await));
                });
            }
        }
    }

    pub(super) async fn judged(&mut self, verdict: Option<Verdict>) {
        let Some(connecting) = &self.connecting else {
            return;
        };
        let app = connecting.name.app.clone();
        match verdict {
            Some(Verdict::Known(policy)) if policy.handler.address.is_empty() => {
                if self.origin_in_reach() {
                    self.finish_connect(true);
                } else {
                    self.wait_for_origin();
                }
            }
            Some(Verdict::Known(policy)) => self.ask_to_connect(&policy).await,
            Some(Verdict::Unknown) => {
                self.connecting = None;
                self.refuse_unknown(&app);
            }
            Some(Verdict::Broken) => {
                self.connecting = None;
                info!(app, "refused a client: the application cannot be used");
                let why = format!("The application \"{app}\" is not configured correctly.");
                self.refuse_connect(StatusCode::ConnectRejected, why);
            }
            None => self.finish_connect(false),
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
        let upstream = Arc::clone(&self.worker.shared.upstream);
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
        if reachable {
            self.let_in(ConnectAnswer::default());
        } else if self.connecting.take().is_some() {
            self.refuse_without_origin();
        }
    }

    fn let_in(&mut self, answer: ConnectAnswer) {
        let Some(connecting) = self.connecting.take() else {
            return;
        };
        let Connecting { name, known, .. } = *connecting;
        info!(app = name.app, instance = name.instance, vhost = name.vhost, peer = %self.peer, "connected");
        let application = Application {
            known,
            instance: name.instance,
        };
        if application.policy().peers {
            self.connection.borrow().allow_peers();
        }
        self.application = Some(application);
        let plain = ConnectAnswer {
            client_id: answer.client_id.clone(),
            ..ConnectAnswer::default()
        };
        let mut outcome = self.core.accept_connect(answer);
        if matches!(outcome, Err(SessionError::Encode(_))) {
            info!("what the application says to the client cannot be written: it is left out");
            outcome = self.core.accept_connect(plain);
        }
        self.note_failure(outcome);
    }

    /// Has the owner of the instance decide.
    async fn ask_to_connect(&mut self, policy: &ApplicationSection) {
        let Some(connecting) = &self.connecting else {
            return;
        };
        let shared = Arc::clone(&self.worker.shared);
        let (client, id) = shared.attachments.new_client();
        let connect = v1::ClientConnect {
            client,
            properties: Some(self.properties(&id, &connecting.request)),
            arguments: values::encode(&connecting.request.arguments),
            resumed: None,
        };
        let attachment = shared.attachments.of(&connecting.name);
        let teller = self.notes.teller();
        self.worker.rooms.enter(attachment.number(), client, teller);
        let said = Said::Connect {
            worker: self.worker.number,
            connect: Box::new(connect),
            patience: Duration::from_millis(policy.handler.pending_ms) + ORIGIN_TIME,
        };
        let patience = Duration::from_millis(policy.handler.timeout_ms) + ORIGIN_TIME;
        let worker = Rc::clone(&self.worker);
        let attached = Attached::new(worker, attachment.clone(), client, id, patience);
        self.attached = Some(Box::new(attached));
        debug!(client, "the application is asked");
        if !attachment.say(said).await {
            self.refused(Refusal::NoOwner);
        }
    }

    fn properties(&self, id: &str, request: &ConnectRequest) -> v1::ClientProperties {
        let connection = self.connection.borrow();
        let (protocol, secure) = connection.protocol();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        v1::ClientProperties {
            id: id.to_owned(),
            ip: self.peer.ip().to_canonical().to_string(),
            protocol: protocol.to_owned(),
            agent: text(&request.flash_version),
            referrer: text(&request.swf_url),
            page_url: text(&request.page_url),
            object_encoding: match request.object_encoding {
                headwater_rtmp::command::ObjectEncoding::Amf0 => 0,
                headwater_rtmp::command::ObjectEncoding::Amf3 => 3,
            },
            secure,
            uri: request.tc_url.clone(),
            peer_id: connection.peer_id().unwrap_or_default(),
            object: values::encode(std::slice::from_ref(&request.object)),
            audio_codecs: request.audio_codecs,
            video_codecs: request.video_codecs,
        }
    }

    /// The application lets the client in.
    pub(super) fn accepted(&mut self, accepted: &v1::ConnectAccepted) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        attached.grant = Some(accepted.grant.clone().unwrap_or_default());
        let client_id = Some(attached.id.clone());
        let properties = values::decode_one(&accepted.properties, self.core.object_encoding());
        let named = properties.as_properties().into_iter().flatten();
        let properties = named.filter_map(|(name, value): &(_, Value)| {
            let name = name.as_str()?;
            // What the client is told by these is that it is connected.
            let is_ours = matches!(name, "level" | "code" | "objectEncoding" | "clientid");
            (!is_ours).then(|| (name.to_owned(), value.clone()))
        });
        let answer = ConnectAnswer {
            description: None,
            client_id,
            properties: properties.collect(),
        };
        self.let_in(answer);
    }

    /// The client is not let in.
    pub(super) fn refused(&mut self, refusal: Refusal) {
        if self.connecting.take().is_none() {
            return;
        }
        self.attached = None;
        let rejected = match refusal {
            Refusal::Rejected(rejected) => rejected,
            Refusal::NoOwner => {
                self.refuse_without_origin();
                return;
            }
            Refusal::NoAnswer => {
                info!("refused a client: the application has not decided in time");
                let why = "The application does not answer.".to_owned();
                self.refuse_connect(StatusCode::ConnectRejected, why);
                return;
            }
        };
        info!(
            description = rejected.description,
            redirect = rejected.redirect,
            "the application refuses a client"
        );
        let text = |text: String| (!text.is_empty()).then_some(text);
        let application = (!rejected.application.is_empty())
            .then(|| values::decode_one(&rejected.application, self.core.object_encoding()));
        let code = StatusCode::parse(&rejected.code).unwrap_or(StatusCode::ConnectRejected);
        let rejection = ConnectRejection {
            code,
            description: text(rejected.description),
            redirect: text(rejected.redirect),
            application,
        };
        let plain = ConnectRejection {
            application: None,
            ..rejection.clone()
        };
        let mut outcome = self.core.reject_connect(rejection);
        if matches!(outcome, Err(SessionError::Encode(_))) {
            outcome = self.core.reject_connect(plain);
        }
        self.note_failure(outcome);
    }

    fn refuse_unknown(&mut self, app: &str) {
        info!(app, "there is no such application");
        self.refuse_connect(
            StatusCode::ConnectInvalidApp,
            format!("There is no application \"{app}\" here."),
        );
    }

    fn refuse_without_origin(&mut self) {
        info!("refused a client: no origin answers");
        self.refuse_connect(
            StatusCode::ProxyNotResponding,
            "No origin server answers.".to_owned(),
        );
    }

    fn refuse_connect(&mut self, code: StatusCode, description: String) {
        let outcome = self.core.reject_connect(ConnectRejection {
            description: Some(description),
            ..ConnectRejection::new(code)
        });
        self.note_failure(outcome);
    }
}
