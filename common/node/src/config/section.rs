//! How a section describes itself: the [`section!`](crate::section) and [`choice!`](crate::choice) macros and the
//! traits they implement.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

use super::{Problem, Secret};

/// What kind of value stands under a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Shape {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Float,
    /// Any text.
    Text,
    /// A text that is never shown.
    Secret,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A value that may be left unset.
    Optional(Box<Self>),
    /// An array.
    List(Box<Self>),
    /// A table whose keys the operator chooses.
    Map(Box<Self>),
    /// A table with fixed keys; the function describes them.
    Section(fn() -> SectionDoc),
}

impl Shape {
    /// The shape without `Optional` around it.
    pub fn required(&self) -> &Self {
        match self {
            Self::Optional(inner) => inner.required(),
            other => other,
        }
    }

    /// What it holds once lists, maps and `Optional` are taken away.
    pub fn element(&self) -> &Self {
        match self {
            Self::List(inner) | Self::Map(inner) | Self::Optional(inner) => inner.element(),
            other => other,
        }
    }

    /// Whether TOML writes it as a table of its own (`[key]`, `[key.name]`, `[[key]]`) instead of `key = value`.
    pub fn is_table(&self) -> bool {
        match self.required() {
            Self::Section(_) | Self::Map(_) => true,
            Self::List(inner) => matches!(inner.required(), Self::Section(_)),
            _ => false,
        }
    }
}

/// The documentation of a section.
#[derive(Clone, Debug)]
pub struct SectionDoc {
    /// The doc comment of the struct, one entry a line.
    pub doc: &'static [&'static str],
    /// Its keys in the order of their definition.
    pub fields: Vec<FieldDoc>,
}

/// The documentation of one key.
#[derive(Clone, Debug)]
pub struct FieldDoc {
    /// The key as the file writes it.
    pub key: &'static str,
    /// The doc comment, one entry a line.
    pub doc: &'static [&'static str],
    /// The allowed range, such as `1 to 65535`.
    pub range: Option<String>,
    /// What kind of value it is.
    pub shape: Shape,
    /// The built-in value; `None` when unset.
    pub default: Option<toml::Value>,
}

/// A type that may stand in a section.
pub trait Field {
    /// What kind of value it is.
    fn shape() -> Shape;

    /// Reports values that are out of range, in this value and below it.
    fn check(&self, problems: &mut Problems) {
        let _ = problems;
    }
}

/// A section: a struct made by [`section!`](crate::section).
pub trait Documented: Field + Default + serde::Serialize {
    /// Its documentation.
    fn section() -> SectionDoc;
}

/// Collects what is wrong while sections are checked, and knows the key it is at.
#[derive(Debug, Default)]
pub struct Problems {
    path: Vec<String>,
    found: Vec<Problem>,
}

impl Problems {
    /// Reports `key` of the section that is being checked. An empty key means the section itself.
    pub fn push(&mut self, key: &str, message: impl Into<String>) {
        let mut path = self.path.clone();
        if !key.is_empty() {
            path.push(key.to_owned());
        }
        self.found.push(Problem {
            key: path.join("."),
            message: message.into(),
            source: None,
        });
    }

    /// Checks what stands under `key`.
    pub fn within(&mut self, key: impl fmt::Display, check: impl FnOnce(&mut Self)) {
        self.path.push(key.to_string());
        check(self);
        self.path.pop();
    }

    /// What was reported, in order.
    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}

macro_rules! plain_fields {
    ($($shape:ident: $($kind:ty),+;)+) => {
        $($(
            impl Field for $kind {
                fn shape() -> Shape {
                    Shape::$shape
                }
            }
        )+)+
    };
}

plain_fields! {
    Bool: bool;
    Integer: u8, u16, u32, u64, usize, i8, i16, i32, i64, isize;
    Float: f32, f64;
    Text: String, PathBuf, IpAddr, SocketAddr;
    Secret: Secret;
}

impl<T: Field> Field for Option<T> {
    fn shape() -> Shape {
        Shape::Optional(Box::new(T::shape()))
    }

    fn check(&self, problems: &mut Problems) {
        if let Some(value) = self {
            value.check(problems);
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn shape() -> Shape {
        Shape::List(Box::new(T::shape()))
    }

    fn check(&self, problems: &mut Problems) {
        for (index, value) in self.iter().enumerate() {
            problems.within(index, |problems| value.check(problems));
        }
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn shape() -> Shape {
        Shape::Map(Box::new(T::shape()))
    }

    fn check(&self, problems: &mut Problems) {
        for (name, value) in self {
            problems.within(name, |problems| value.check(problems));
        }
    }
}

/// A number, or an optional number, that a range can be set for.
pub trait Ranged {
    /// The number inside.
    type Number: PartialOrd + fmt::Display;

    /// The number, unless it is unset.
    fn number(&self) -> Option<&Self::Number>;
}

macro_rules! ranged {
    ($($kind:ty),+) => {
        $(
            impl Ranged for $kind {
                type Number = Self;

                fn number(&self) -> Option<&Self> {
                    Some(self)
                }
            }
        )+
    };
}

ranged!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, f32, f64);

impl<T: Ranged> Ranged for Option<T> {
    type Number = T::Number;

    fn number(&self) -> Option<&T::Number> {
        self.as_ref().and_then(T::number)
    }
}

/// Says what is wrong when `value` is outside `range`.
pub fn range_problem<T: Ranged, R: RangeBounds<T::Number>>(value: &T, range: &R) -> Option<String> {
    let number = value.number()?;
    (!range.contains(number))
        .then(|| format!("is {number}, but must be {}", range_text::<T, R>(range)))
}

/// A range in words, such as `1 to 65535`.
pub fn range_text<T: Ranged, R: RangeBounds<T::Number>>(range: &R) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(low) | Bound::Excluded(low), Bound::Included(high)) => {
            format!("{low} to {high}")
        }
        (Bound::Included(low) | Bound::Excluded(low), Bound::Excluded(high)) => {
            format!("{low} to below {high}")
        }
        (Bound::Included(low) | Bound::Excluded(low), Bound::Unbounded) => {
            format!("at least {low}")
        }
        (Bound::Unbounded, Bound::Included(high)) => format!("at most {high}"),
        (Bound::Unbounded, Bound::Excluded(high)) => format!("below {high}"),
        (Bound::Unbounded, Bound::Unbounded) => "any number".to_owned(),
    }
}

/// A default as a TOML value; `None` when it is unset.
pub fn default_of<T: serde::Serialize>(value: &T) -> Option<toml::Value> {
    toml::Value::try_from(value).ok()
}

/// Defines a section of the configuration once: struct, defaults, ranges and documentation.
///
/// Each field is `/// documentation`, `name: type = default`, and for numbers optionally `=> range`. An optional
/// `validate |section, problems| { … }` block at the end reports what a range cannot say.
///
/// The struct is `Clone`, `Debug`, `PartialEq`, serde both ways (missing keys take their default, unknown keys are
/// refused), `Default`, [`Field`](crate::config::Field) and [`Documented`](crate::config::Documented). Types of fields:
/// `bool`, integers, floats, `String`, `PathBuf`, [`Secret`](crate::config::Secret),
/// [`ListenAddress`](crate::address::ListenAddress), words made by [`choice!`](crate::choice), other sections, and
/// `Option<T>`, `Vec<T>`, `BTreeMap<String, T>` of these. The default of an `Option` must be `None`, because TOML cannot
/// write an unset value; integers must fit TOML's 64 bits with a sign. Times are integers whose name ends in `_ms` or `_s`, sizes are
/// bytes whose name ends in `_bytes`.
///
/// ```
/// use headwater_node::section;
///
/// section! {
///     /// Where RTMP clients connect.
///     pub struct RtmpSection {
///         /// Port or address to listen on.
///         pub listen: String = "1935".to_owned(),
///         /// Chunk size of what we send, bytes.
///         pub chunk_bytes: u32 = 65_536 => 128..=16_777_215,
///     }
///     validate |section, problems| {
///         if section.listen.is_empty() {
///             problems.push("listen", "must not be empty");
///         }
///     }
/// }
///
/// assert_eq!(RtmpSection::default().chunk_bytes, 65_536);
/// ```
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $visibility:vis struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $field_visibility:vis $field:ident : $kind:ty = $default:expr $(=> $range:expr)?
            ),* $(,)?
        }
        $(validate |$this:ident, $problems:ident| $body:block)?
    ) => {
        $(#[doc = $section_doc])*
        #[derive(
            Clone,
            Debug,
            PartialEq,
            $crate::__private::serde::Serialize,
            $crate::__private::serde::Deserialize,
        )]
        #[serde(crate = "headwater_node::__private::serde", default, deny_unknown_fields)]
        $visibility struct $name {
            $(
                $(#[doc = $doc])*
                $field_visibility $field: $kind,
            )*
        }

        impl ::core::default::Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::config::Field for $name {
            fn shape() -> $crate::config::Shape {
                $crate::config::Shape::Section(<Self as $crate::config::Documented>::section)
            }

            fn check(&self, problems: &mut $crate::config::Problems) {
                // For a section without keys.
                let _ = &problems;
                $(
                    problems.within($crate::section!(@key $field), |problems| {
                        $crate::config::Field::check(&self.$field, problems);
                    });
                    $(
                        if let ::core::option::Option::Some(message) =
                            $crate::config::range_problem::<$kind, _>(&self.$field, &($range))
                        {
                            problems.push($crate::section!(@key $field), message);
                        }
                    )?
                )*
                $({
                    let $this = self;
                    let $problems = &mut *problems;
                    $body
                })?
            }
        }

        impl $crate::config::Documented for $name {
            fn section() -> $crate::config::SectionDoc {
                let defaults = <Self as ::core::default::Default>::default();
                let _ = &defaults;
                $crate::config::SectionDoc {
                    doc: &[$($section_doc),*],
                    fields: ::std::vec![
                        $(
                            $crate::config::FieldDoc {
                                key: $crate::section!(@key $field),
                                doc: &[$($doc),*],
                                range: $crate::section!(@range $kind $(, $range)?),
                                shape: <$kind as $crate::config::Field>::shape(),
                                default: $crate::config::default_of(&defaults.$field),
                            },
                        )*
                    ],
                }
            }
        }
    };
    (@key $field:ident) => {{
        const NAME: &str = ::core::stringify!($field);
        // serde drops the mark of a raw identifier (`r#type`), and so must we.
        match NAME.as_bytes() {
            [b'r', b'#', ..] => NAME.split_at(2).1,
            _ => NAME,
        }
    }};
    (@range $kind:ty) => {
        ::core::option::Option::None
    };
    (@range $kind:ty, $range:expr) => {
        ::core::option::Option::Some($crate::config::range_text::<$kind, _>(&($range)))
    };
}

/// Defines a word of the configuration: an enum whose values are written as fixed lower-case texts.
///
/// ```
/// use headwater_node::choice;
///
/// choice! {
///     /// How a log line looks.
///     pub enum Format {
///         /// For people.
///         Text = "text",
///         /// One JSON object a line.
///         Json = "json",
///     }
/// }
///
/// assert_eq!(Format::Json.as_str(), "json");
/// ```
#[macro_export]
macro_rules! choice {
    (
        $(#[doc = $enum_doc:literal])*
        $visibility:vis enum $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $variant:ident = $text:literal
            ),+ $(,)?
        }
    ) => {
        $(#[doc = $enum_doc])*
        #[derive(
            Clone,
            Copy,
            Debug,
            PartialEq,
            Eq,
            Hash,
            $crate::__private::serde::Serialize,
            $crate::__private::serde::Deserialize,
        )]
        #[serde(crate = "headwater_node::__private::serde")]
        $visibility enum $name {
            $(
                $(#[doc = $doc])*
                #[serde(rename = $text)]
                $variant,
            )+
        }

        impl $name {
            /// The word as the configuration writes it.
            $visibility const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl ::core::fmt::Display for $name {
            fn fmt(&self, formatter: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl $crate::config::Field for $name {
            fn shape() -> $crate::config::Shape {
                $crate::config::Shape::Choice(&[$($text),+])
            }
        }
    };
}
