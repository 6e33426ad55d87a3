//! Streams that are fed into groups: what a publisher asks for, and the way from its session to the driver of its worker.
//!
//! A publisher says in the query of the stream's name which group a stream is fed into, as encoders do to the `multicast` service of Adobe
//! Media Server: `NAME?fms.multicast.type=3&fms.multicast.groupspec=G:...`. The member that feeds it is at the edge where the publisher is: there
//! is one publisher of a stream in the whole cluster, so there is one member; it has each frame before any other edge has; and it ends with the
//! publisher. It is in the driver of the publisher's worker, for the first address that RTMFP is listened on.
//!
//! # Bounds
//! `rtmfp.max_members` members on one edge; [`WAITING`] bytes between a worker's publishers and its driver, beyond which media are left out.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use headwater_media::frame::FrameFlags;
use headwater_rtmfp::group::{BadSpecification, Specification};
use headwater_rtmp::message::Message;
use tokio::sync::{Notify, OwnedSemaphorePermit};

/// Bytes of media that wait for the driver, which takes them whenever it runs.
const WAITING: usize = 32 << 20;

const TYPE: &str = "fms.multicast.type";
const SPECIFICATION: &str = "fms.multicast.groupspec";

/// The type of a stream that goes by IP multicast alone; the others, 1 and 3, go from member to member, too or alone.
const IP_ALONE: &str = "2";

/// Why a stream cannot be fed into the group that its name asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CannotFeed {
    #[error("the groupspec is none: {0}")]
    Specification(#[from] BadSpecification),
    #[error("IP multicast is not done here")]
    IpAlone,
    #[error("this server does not listen for RTMFP")]
    NoRtmfp,
    #[error("as many streams as may be are fed into groups here")]
    TooMany,
}

/// The group that a stream is to be fed into, by the query of its name.
pub(crate) fn read(query: &str) -> Result<Option<Specification>, CannotFeed> {
    let mut specification = None;
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some((SPECIFICATION, text)) => {
                specification = Some(Specification::parse(&unescape(text))?);
            }
            Some((TYPE, IP_ALONE)) => return Err(CannotFeed::IpAlone),
            _ => {}
        }
    }
    Ok(specification)
}

/// Bytes for `%` and their digits, as far as they are text.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<2>().filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = match byte {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a driver is told of a stream.
pub(super) enum Fed {
    /// It begins.
    Begun {
        specification: Specification,
        /// What it is called in the group.
        name: String,
        /// Room for its member, for as long as there is one.
        room: OwnedSemaphorePermit,
    },
    /// There is more of it: a message, and what it is.
    Message(Message, FrameFlags),
    /// It is over.
    Ended,
}

/// The streams of one worker's publishers that are fed into groups.
#[derive(Default)]
pub(crate) struct Feeds {
    queue: RefCell<VecDeque<(u64, Fed)>>,
    bytes: Cell<usize>,
    next: Cell<u64>,
    is_served: Cell<bool>,
    notify: Notify,
}

impl Feeds {
    /// Takes the part of the driver. False: another one has it.
    pub(super) fn attach(&self) -> bool {
        !self.is_served.replace(true)
    }

    /// The driver is not there any more.
    pub(super) fn detach(&self) {
        self.is_served.set(false);
    }

    /// There is something to be taken.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    /// The next news, and of which stream.
    pub(super) fn take(&self) -> Option<(u64, Fed)> {
        let next = self.queue.borrow_mut().pop_front();
        if let Some((_, Fed::Message(message, _))) = &next {
            let left = self.bytes.get().saturating_sub(message.payload.len());
            self.bytes.set(left);
        }
        next
    }

    /// Whether anybody would feed a stream.
    pub(crate) fn is_served(&self) -> bool {
        self.is_served.get()
    }

    fn tell(&self, feed: u64, fed: Fed) {
        if !self.is_served() {
            // Nobody would take it.
            return;
        }
        self.queue.borrow_mut().push_back((feed, fed));
        self.notify.notify_one();
    }
}

/// A stream that is fed into a group, until this is dropped.
pub(crate) struct Feed {
    feeds: Rc<Feeds>,
    number: u64,
}

impl Feed {
    pub(crate) fn begin(
        feeds: &Rc<Feeds>,
        room: OwnedSemaphorePermit,
        specification: Specification,
        name: String,
    ) -> Self {
        let number = feeds.next.get();
        feeds.next.set(number + 1);
        feeds.tell(
            number,
            Fed::Begun {
                specification,
                name,
                room,
            },
        );
        Self {
            feeds: Rc::clone(feeds),
            number,
        }
    }

    /// More of the stream. False: it was left out, because the driver is behind.
    pub(crate) fn push(&self, message: Message, flags: FrameFlags) -> bool {
        if message.payload.is_empty() {
            // Nothing is lost, and they would not be counted.
            return true;
        }
        let bytes = self.feeds.bytes.get() + message.payload.len();
        if bytes > WAITING || !self.feeds.is_served() {
            return false;
        }
        self.feeds.bytes.set(bytes);
        self.feeds.tell(self.number, Fed::Message(message, flags));
        true
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.feeds.tell(self.number, Fed::Ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "G:027f0201010103010c050e74657374011b00";

    #[test]
    fn the_query_of_a_name_says_which_group() {
        let expected = Specification::parse(GROUP).unwrap();
        let escaped = GROUP.replace(':', "%3A");
        for query in [
            format!("fms.multicast.type=3&fms.multicast.groupspec={GROUP}"),
            format!("fms.multicast.groupspec={escaped}"),
            format!("a&fms.multicast.groupspec={escaped}&fms.multicast.type=1&b=%"),
        ] {
            assert_eq!(read(&query), Ok(Some(expected.clone())), "{query}");
        }
        assert_eq!(read(""), Ok(None));
        assert_eq!(read("a=b&fms.multicast.type=3"), Ok(None));
        assert_eq!(read("fms.multicast.type=2"), Err(CannotFeed::IpAlone));
        let prefix = CannotFeed::Specification(BadSpecification::Prefix);
        assert_eq!(read("fms.multicast.groupspec=x"), Err(prefix));
    }

    #[test]
    fn what_is_escaped_is_read_and_what_is_no_escape_stays() {
        for (text, plain) in [
            ("G%3a01", "G:01"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%é1", "%é1"),
            ("100%25", "100%"),
        ] {
            assert_eq!(unescape(text), plain, "{text}");
        }
    }
}
