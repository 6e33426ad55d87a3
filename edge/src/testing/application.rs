//! An origin's applications as a test says them: what they allow, and what the owner of an instance answers.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use headwater_proto::v1;
use headwater_proto::v1::application_server::Application;
use headwater_proto::v1::attach_request::Request as Ask;
use headwater_proto::v1::attach_response::Response as Answer;
use headwater_proto::v1::policy_response::Response as Policy;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::PATIENCE;

/// Answers of a call.
type Answers = mpsc::Sender<Result<v1::AttachResponse, Status>>;

/// A fake origin's applications. Clones share it.
#[derive(Clone)]
pub(crate) struct Applications(Arc<Shared>);

struct Shared {
    policies: Mutex<HashMap<String, Policy>>,
    /// Questions that came so far.
    described: watch::Sender<usize>,
    /// They are not answered for as long as this is set.
    hung: watch::Sender<bool>,
    /// Calls that wait for changes.
    changes: Mutex<Vec<mpsc::Sender<Result<v1::ChangesResponse, Status>>>>,
    listening: watch::Sender<usize>,
    /// Knows of no applications.
    too_old: watch::Sender<bool>,
    hooks: Mutex<v1::Hooks>,
    asked: mpsc::UnboundedSender<Ask>,
    asked_receiver: tokio::sync::Mutex<mpsc::UnboundedReceiver<Ask>>,
    /// The newest call.
    answers: Mutex<Option<Answers>>,
}

impl Applications {
    pub(crate) fn new() -> Self {
        let (asked, asked_receiver) = mpsc::unbounded_channel();
        Self(Arc::new(Shared {
            policies: Mutex::default(),
            described: watch::Sender::default(),
            hung: watch::Sender::default(),
            changes: Mutex::default(),
            listening: watch::Sender::default(),
            too_old: watch::Sender::default(),
            hooks: Mutex::new(v1::Hooks {
                connect: true,
                publish: true,
                play: true,
                call: true,
                use_object: false,
                ends: true,
            }),
            asked,
            asked_receiver: tokio::sync::Mutex::new(asked_receiver),
            answers: Mutex::default(),
        }))
    }

    /// Puts an `app.toml` into the store.
    pub(crate) fn store(&self, vhost: &str, app: &str, toml: &str) {
        let policy = Policy::Policy(v1::ApplicationPolicy {
            version: 1,
            toml: toml.to_owned(),
            stored: true,
        });
        self.put(vhost, app, policy);
    }

    pub(crate) fn put(&self, vhost: &str, app: &str, policy: Policy) {
        let key = format!("{vhost}/{app}");
        self.0.policies.lock().insert(key, policy);
    }

    /// Tells edges that an application has changed.
    pub(crate) async fn announce(&self, vhost: &str, app: &str) {
        let changed = v1::ChangesResponse {
            all: false,
            changed: vec![v1::ApplicationName {
                vhost: vhost.to_owned(),
                app: app.to_owned(),
            }],
        };
        let calls = self.0.changes.lock().clone();
        for call in calls {
            let _ = call.send(Ok(changed.clone())).await;
        }
    }

    /// Waits until an edge listens to changes, for the `count`th time.
    pub(crate) async fn until_listened_to(&self, count: usize) {
        let mut listening = self.0.listening.subscribe();
        let waiting = listening.wait_for(|listening| *listening >= count);
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap()
            .unwrap();
    }

    pub(crate) fn described(&self) -> usize {
        *self.0.described.borrow()
    }

    /// Waits until so many questions have come.
    pub(crate) async fn until_described(&self, count: usize) {
        let mut described = self.0.described.subscribe();
        let waiting = described.wait_for(|described| *described >= count);
        let outcome = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(outcome, "{} questions", self.described());
    }

    pub(crate) fn hang(&self, is_hung: bool) {
        self.0.hung.send_replace(is_hung);
    }

    pub(crate) fn set_too_old(&self, is_too_old: bool) {
        self.0.too_old.send_replace(is_too_old);
        self.0.changes.lock().clear();
    }

    pub(crate) fn set_hooks(&self, change: impl FnOnce(&mut v1::Hooks)) {
        change(&mut self.0.hooks.lock());
    }

    /// The next thing that an edge has said to the owner of an instance. An open is answered already.
    pub(crate) async fn asked(&self) -> Ask {
        let mut receiver = self.0.asked_receiver.lock().await;
        let asked = tokio::time::timeout(PATIENCE, receiver.recv()).await;
        asked.expect("nothing is asked").unwrap()
    }

    /// Says something in the newest call.
    pub(crate) async fn say(&self, answer: Answer) {
        let answers = self.0.answers.lock().clone().expect("a call");
        let response = Some(answer);
        answers
            .send(Ok(v1::AttachResponse { response }))
            .await
            .unwrap();
    }

    /// Breaks the newest call.
    pub(crate) async fn break_call(&self) {
        let answers = self.0.answers.lock().take().expect("a call");
        let _ = answers.send(Err(Status::unavailable("a test"))).await;
    }

    async fn serve(self, mut requests: Streaming<v1::AttachRequest>) {
        while let Ok(Some(request)) = requests.message().await {
            let Some(request) = request.request else {
                continue;
            };
            if let Ask::Open(_) = request {
                let hooks = *self.0.hooks.lock();
                self.say(Answer::Opened(v1::AttachOpened {
                    epoch: 1,
                    hooks: Some(hooks),
                    owner: "a".to_owned(),
                }))
                .await;
            }
            let _ = self.0.asked.send(request);
        }
    }
}

type Answered<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Application for Applications {
    type AttachStream = Answered<v1::AttachResponse>;
    type ChangesStream = Answered<v1::ChangesResponse>;

    async fn describe(
        &self,
        request: Request<v1::PolicyRequest>,
    ) -> Result<Response<v1::PolicyResponse>, Status> {
        if *self.0.too_old.borrow() {
            return Err(Status::unimplemented("too old"));
        }
        let request = request.into_inner();
        self.0.described.send_modify(|described| *described += 1);
        let mut hung = self.0.hung.subscribe();
        let _ = hung.wait_for(|hung| !hung).await;
        let key = format!("{}/{}", request.vhost, request.app);
        let policy = self.0.policies.lock().get(&key).cloned();
        let unknown = || Policy::Unknown(v1::ApplicationUnknown {});
        Ok(Response::new(v1::PolicyResponse {
            response: Some(policy.unwrap_or_else(unknown)),
        }))
    }

    async fn changes(
        &self,
        _: Request<v1::ChangesRequest>,
    ) -> Result<Response<Self::ChangesStream>, Status> {
        if *self.0.too_old.borrow() {
            return Err(Status::unimplemented("too old"));
        }
        let (call, receiver) = mpsc::channel(16);
        let first = v1::ChangesResponse {
            all: true,
            changed: Vec::new(),
        };
        let _ = call.try_send(Ok(first));
        self.0.changes.lock().push(call);
        self.0.listening.send_modify(|listening| *listening += 1);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn attach(
        &self,
        request: Request<Streaming<v1::AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (answers, receiver) = mpsc::channel(16);
        *self.0.answers.lock() = Some(answers);
        tokio::spawn(self.clone().serve(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
