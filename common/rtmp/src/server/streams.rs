//! The message streams of one connection, and what each is used for.

/// What a message stream is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// Nothing yet, or nothing any more.
    Idle,
    /// The client publishes, or waits for the answer to its `publish`.
    Publishing {
        /// The name it publishes, without the query.
        name: String,
        /// Whether the caller has accepted it.
        accepted: bool,
    },
    /// The client plays, or waits for a stream to appear.
    Playing,
}

/// All message streams of a connection.
#[derive(Debug)]
pub(super) struct Streams {
    /// By ascending id. Nearly every client has one: a tree would begin with room for eleven.
    streams: Vec<(u32, Activity)>,
    limit: usize,
}

impl Streams {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            streams: Vec::new(),
            limit,
        }
    }

    /// Makes a stream with the lowest free id from 1 (0 is the connection itself). `None` if there are enough.
    ///
    /// An id is used again after `deleteStream`: the client's messages come in order, so none of the old stream can follow.
    pub(super) fn create(&mut self) -> Option<u32> {
        if self.streams.len() >= self.limit {
            return None;
        }
        let used = self.streams.iter().map(|(id, _)| *id);
        let place = used
            .zip(1..)
            .position(|(id, lowest)| id != lowest)
            .unwrap_or(self.streams.len());
        let id = u32::try_from(place).ok()?.checked_add(1)?;
        self.streams.reserve_exact(1);
        self.streams.insert(place, (id, Activity::Idle));
        Some(id)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Activity> {
        let place = self.place(id)?;
        self.streams.get(place).map(|(_, activity)| activity)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Activity> {
        let place = self.place(id)?;
        self.streams.get_mut(place).map(|(_, activity)| activity)
    }

    pub(super) fn delete(&mut self, id: u32) {
        if let Some(place) = self.place(id) {
            self.streams.remove(place);
        }
    }

    fn place(&self, id: u32) -> Option<usize> {
        self.streams.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    pub(super) fn is_playing(&self, id: u32) -> bool {
        self.get(id) == Some(&Activity::Playing)
    }

    /// Ids of the streams that publish this name.
    pub(super) fn publishing(&self, name: &str) -> Vec<u32> {
        self.streams
            .iter()
            .filter(|(_, activity)| {
                matches!(activity, Activity::Publishing { name: published, .. } if published == name)
            })
            .map(|(id, _)| *id)
            .collect()
    }

    /// The stream that media with this message stream id belongs to, if that one publishes.
    ///
    /// Some clients leave the id of media messages at 0, the connection itself, where no media can be. There the only stream
    /// that publishes is meant; of two it cannot be told which.
    pub(super) fn publisher_of(&self, id: u32) -> Option<u32> {
        let mut publishers = self
            .streams
            .iter()
            .filter(|(_, activity)| matches!(activity, Activity::Publishing { .. }))
            .map(|(id, _)| *id);
        if id != 0 {
            return publishers.find(|publisher| *publisher == id);
        }
        let only = publishers.next()?;
        publishers.next().is_none().then_some(only)
    }

    /// Ids of all streams.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.streams.iter().map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_begin_at_one_and_are_used_again() {
        let mut streams = Streams::new(3);
        assert_eq!(
            [streams.create(), streams.create(), streams.create()],
            [Some(1), Some(2), Some(3)]
        );
        assert_eq!(streams.create(), None);
        streams.delete(2);
        assert_eq!(streams.get(2), None);
        assert_eq!(streams.create(), Some(2));
        assert_eq!(streams.ids(), [1, 2, 3]);
    }

    #[test]
    fn publishers_are_found_by_name() {
        let mut streams = Streams::new(3);
        for name in ["a", "b", "a"] {
            let id = streams.create().unwrap();
            *streams.get_mut(id).unwrap() = Activity::Publishing {
                name: name.to_owned(),
                accepted: false,
            };
        }
        assert_eq!(streams.publishing("a"), [1, 3]);
        assert!(streams.publishing("c").is_empty());
    }

    #[test]
    fn media_without_a_stream_belongs_to_the_only_publisher() {
        let mut streams = Streams::new(4);
        for activity in [Activity::Idle, Activity::Playing] {
            let id = streams.create().unwrap();
            *streams.get_mut(id).unwrap() = activity;
        }
        let publishers = |streams: &Streams| [0, 1, 2, 3, 4].map(|id| streams.publisher_of(id));
        assert_eq!(publishers(&streams), [None; 5]);
        let publishing = Activity::Publishing {
            name: "a".to_owned(),
            accepted: false,
        };
        let id = streams.create().unwrap();
        *streams.get_mut(id).unwrap() = publishing.clone();
        assert_eq!(publishers(&streams), [Some(3), None, None, Some(3), None]);
        let id = streams.create().unwrap();
        *streams.get_mut(id).unwrap() = publishing;
        assert_eq!(publishers(&streams), [None, None, None, Some(3), Some(4)]);
    }
}
