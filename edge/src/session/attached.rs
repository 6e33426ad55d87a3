//! A client that the origin of its application instance knows: what it asks there, and what it is told from there.
//!
//! Calls, publishes and plays count together, so that one number tells which of them an answer is for. What is asked about one message
//! stream is done in the order in which the client wanted it, however the answers come.

use std::collections::VecDeque;

use super::*;

use headwater_amf::Value;
use headwater_proto::v1;
use headwater_rtmp::command::{Play2Parameters, PlayRequest, PublishRequest, TransactionId};
use headwater_rtmp::server::MediaFrame;
use headwater_rtmp::status::Level;

use crate::application::attachment::{Attachment, Said, What};
use crate::application::room::Call;
use crate::application::values;

mod streams;

/// How long a client may take to answer a call of its application.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Wishes to publish or play that wait for their answer.
const MAX_ASKED: usize = 64;

/// Streams of a client of which the origin knows that they were granted.
const MAX_GRANTED: usize = 256;

/// What a publisher sends before it is let in is kept for it: frames, and their bytes. Encoders that do not wait begin with what
/// viewers cannot do without.
const MAX_EARLY: (usize, usize) = (256, 4 << 20);

/// See the [module](self).
pub(super) struct Attached {
    worker: Rc<Worker>,
    attachment: Attachment,
    client: u64,
    /// What the cluster knows the client by.
    pub(super) id: String,
    /// What the client may do. `None`: it is pending.
    pub(super) grant: Option<v1::ClientGrant>,
    /// How long the application may take to answer, once it is asked.
    patience: Duration,
    /// The last number that was used.
    last: u64,
    /// Calls of the client that wait for their answer.
    calls: Vec<(u64, TransactionId)>,
    /// Calls of the application that wait for the client's answer, the oldest first.
    called: VecDeque<Waiting>,
    asked: VecDeque<Asked>,
    granted: Vec<Granted>,
    /// Message streams on which something has ended that the client did not end.
    over: Vec<u32>,
}

struct Waiting {
    transaction: TransactionId,
    link: u64,
    call: u64,
    until: Duration,
}

/// What a client wants and may not do yet.
pub(super) enum Wish {
    Publish(PublishRequest),
    Play(PlayRequest),
    Play2(u32, Play2Parameters),
}

struct Asked {
    number: u64,
    wish: Wish,
    /// The client does not want it any more.
    is_over: bool,
    decision: Option<v1::StreamDecision>,
    /// What a publisher has sent already.
    early: Vec<MediaFrame>,
    early_bytes: usize,
}

struct Granted {
    stream_id: u32,
    number: u64,
    publishes: bool,
    stream: String,
}

impl Wish {
    fn stream_id(&self) -> u32 {
        match self {
            Self::Publish(request) => request.stream_id,
            Self::Play(request) => request.stream_id,
            Self::Play2(stream_id, _) => *stream_id,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Publish(request) => &request.name,
            Self::Play(request) => &request.name,
            Self::Play2(_, parameters) => &parameters.stream_name,
        }
    }

    fn publishes(&self) -> bool {
        matches!(self, Self::Publish(_))
    }
}

impl Attached {
    pub(super) fn new(
        worker: Rc<Worker>,
        attachment: Attachment,
        client: u64,
        id: String,
        patience: Duration,
    ) -> Self {
        Self {
            worker,
            attachment,
            client,
            id,
            grant: None,
            patience,
            last: 0,
            calls: Vec::new(),
            called: VecDeque::new(),
            asked: VecDeque::new(),
            granted: Vec::new(),
            over: Vec::new(),
        }
    }

    /// When to call [`Session::give_up_calls`].
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.called.front().map(|waiting| waiting.until)
    }

    pub(super) fn wants_to_decide(&self, publishes: bool) -> bool {
        if publishes {
            self.attachment.hooks_publish()
        } else {
            self.attachment.hooks_play()
        }
    }

    /// Whether calls of the client are for the application.
    pub(super) fn takes_calls(&self) -> bool {
        self.attachment.hooks_call()
    }

    /// The number of the client at this edge.
    pub(super) fn client(&self) -> u64 {
        self.client
    }

    /// How long the application may take to answer, once it is asked.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(super) async fn say(&self, said: Said) {
        // Where nobody hears it, the process stops.
        self.attachment.say(said).await;
    }

    async fn say_ended(&self, publishes: bool, number: u64, stream: String) {
        let ended = Box::new(v1::StreamEnded {
            client: self.client,
            ask: number,
            stream,
        });
        self.say(if publishes {
            Said::Unpublished(ended)
        } else {
            Said::Stopped(ended)
        })
        .await;
    }

    /// Keeps what a publisher sends that waits to be let in.
    pub(super) fn keep_early(&mut self, stream_id: u32, frame: MediaFrame) {
        let kept: usize = self.asked.iter().map(|it| it.early_bytes).sum();
        let mut asked = self.asked.iter_mut().rev();
        let is_it = |it: &&mut Asked| {
            !it.is_over && it.wish.publishes() && it.wish.stream_id() == stream_id
        };
        if let Some(asked) = asked.find(is_it)
            && asked.early.len() < MAX_EARLY.0
            && kept + frame.payload.len() <= MAX_EARLY.1
        {
            asked.early_bytes += frame.payload.len();
            asked.early.push(frame);
        }
    }

    async fn answer(&self, link: u64, call: u64, result: Result<Value, Value>) {
        let (failed, value) = match result {
            Ok(value) => (false, value),
            Err(value) => (true, value),
        };
        let answer = Box::new(v1::ClientAnswer {
            client: self.client,
            call,
            failed,
            value: values::encode(&[value]),
        });
        self.say(Said::Answer { link, answer }).await;
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let (worker, attachment) = (&self.worker, &self.attachment);
        worker.rooms.leave(attachment.number(), self.client);
        worker.shared.attachments.leave(attachment, self.client);
    }
}

impl Session {
    /// Takes what comes from the client's application.
    pub(super) async fn application_says(&mut self, what: What) {
        match what {
            What::Accepted(accepted) => self.accepted(&accepted),
            What::Refused(refusal) => self.refused(refusal),
            What::Answer(answer) => self.call_answered(&answer),
            What::Lost { call, why } => {
                if let Some(transaction) = self.take_call(call) {
                    let outcome = self.core.reject_call(transaction, why);
                    self.note_failure(outcome);
                }
            }
            What::Stream(decision) => self.decided(decision).await,
            What::Granted(grant) => {
                if let Some(attached) = &mut self.attached {
                    attached.grant = Some(grant);
                }
                self.objects_granted();
            }
            What::Object(decision) => self.object_decided(&decision).await,
            What::EndStream(end) => self.end_stream(&end).await,
            What::End(end) => self.end(&end.code, end.description, StatusCode::ConnectClosed),
            What::Ended(ended) => self.end(
                &ended.code,
                ended.description,
                StatusCode::ConnectAppShutdown,
            ),
            // Comes as a note of its own, because many share it.
            What::Call(_) => {}
        }
    }

    fn end(&mut self, code: &str, description: String, usual: StatusCode) {
        info!(code, description, "the application ends the client");
        let mut status = match StatusCode::parse(code) {
            Some(code) => Status::new(code),
            None if code.is_empty() => Status::new(usual),
            None => Status::custom(Level::Status, code.to_owned(), String::new()),
        };
        if !description.is_empty() {
            status = status.describe(description);
        }
        let outcome = self.core.close(&status);
        self.note_failure(outcome);
    }

    /// More came from the application than the client takes.
    pub(super) fn overrun(&mut self) {
        let why = "The client does not take what its application says.".to_owned();
        self.end("", why, StatusCode::ConnectClosed);
    }

    /// Passes a call on to the application.
    pub(super) async fn forward_call(
        &mut self,
        name: String,
        transaction: TransactionId,
        arguments: &[Value],
    ) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let mut call = 0;
        if transaction.wants_answer() {
            call = attached.number();
            // As many as the core lets wait.
            attached.calls.push((call, transaction));
        }
        let call = v1::ClientCall {
            client: attached.client,
            call,
            name,
            arguments: values::encode(arguments),
        };
        attached.say(Said::Call(Box::new(call))).await;
    }

    fn take_call(&mut self, call: u64) -> Option<TransactionId> {
        let attached = self.attached.as_mut()?;
        let index = attached.calls.iter().position(|(it, _)| *it == call)?;
        Some(attached.calls.remove(index).1)
    }

    fn call_answered(&mut self, answer: &v1::CallAnswer) {
        let Some(transaction) = self.take_call(answer.call) else {
            return;
        };
        let value = values::decode_one(&answer.value, self.core.object_encoding());
        let outcome = if !answer.failed {
            self.core.answer_call(transaction, value)
        } else if value.as_properties().is_some() {
            self.core.fail_call(transaction, value)
        } else {
            let why = StatusCode::CallFailed.description();
            self.core.reject_call(transaction, why)
        };
        self.note_failure(outcome);
    }

    /// The application calls a method of the client.
    pub(super) async fn application_calls(&mut self, call: &Call) {
        let encoding = self.core.object_encoding();
        let called = &call.called;
        if called.call == 0 {
            let Some(notice) = call.notice(encoding) else {
                info!(
                    name = called.name,
                    "a call of the application makes no sense"
                );
                return;
            };
            let outcome = self.core.notify_shared(notice);
            self.note_failure(outcome);
            return;
        }
        let until = self.now() + ANSWER_TIMEOUT;
        let sent = match call.arguments(encoding) {
            Some(arguments) => self.core.call(&called.name, arguments),
            None => Err(SessionError::NotConnected),
        };
        let Some(attached) = &mut self.attached else {
            return;
        };
        match sent {
            Ok(transaction) => attached.called.push_back(Waiting {
                transaction,
                link: called.link,
                call: called.call,
                until,
            }),
            Err(error) => {
                debug!(name = called.name, %error, "the application cannot call the client");
                let why = Status::new(StatusCode::CallFailed).to_value();
                attached.answer(called.link, called.call, Err(why)).await;
                if error.is_fatal() {
                    self.note_failure(Err(error));
                }
            }
        }
    }

    /// The client has answered a call.
    pub(super) async fn client_answers(
        &mut self,
        transaction: TransactionId,
        result: Result<Value, Value>,
    ) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let mut called = attached.called.iter();
        if let Some(index) = called.position(|it| it.transaction == transaction)
            && let Some(waiting) = attached.called.remove(index)
        {
            attached.answer(waiting.link, waiting.call, result).await;
        }
    }

    /// Gives up calls that the client does not answer.
    pub(super) async fn give_up_calls(&mut self) {
        let now = self.now();
        let Some(attached) = &mut self.attached else {
            return;
        };
        while let Some(waiting) = attached.called.pop_front_if(|it| it.until <= now) {
            self.core.forget_call(waiting.transaction);
            let why = Status::new(StatusCode::CallFailed).describe("The client does not answer.");
            let why = Err(why.to_value());
            attached.answer(waiting.link, waiting.call, why).await;
        }
    }

    /// What a client may do: read access, or write access.
    pub(super) fn may(&self, policy: &ApplicationSection, writes: bool, name: &str) -> bool {
        let grant = self.attached.as_ref().and_then(|it| it.grant.as_ref());
        let paths = match (grant, writes) {
            (Some(grant), true) => &grant.write_access,
            (Some(grant), false) => &grant.read_access,
            (None, true) => &policy.write_access,
            (None, false) => &policy.read_access,
        };
        crate::application::access::allows(paths, name)
    }
}
