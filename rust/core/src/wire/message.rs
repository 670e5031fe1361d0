//! How one declaration becomes encoding and decoding of every version.
//!
//! ```text
//! message! {
//!     /// What it is for.
//!     pub struct FetchPartition {
//!         /// A field all versions have.
//!         pub partition: i32 => 0..,
//!         /// Only since version 9; older versions leave it at -1.
//!         pub current_leader_epoch: i32 = -1 => 9..,
//!     } tagged {
//!         /// Tagged field 0, since version 17 (KIP-482).
//!         0: pub replica_directory_id: Uuid => 17..,
//!     }
//! }
//! ```
//!
//! # What a declaration says
//!
//! * A row is a field: its name in Kafka's schema in snake case, its type, its default if that is not the type's own, and
//!   the range of versions that have it. The order of the rows is the order on the wire.
//! * A field outside its range is not written, and reads as its default.
//! * A row under `tagged` begins with its tag. It is written when it differs from its default; a tag that is not declared
//!   is skipped when read.
//! * `Option<..>` is a nullable field, `None` is null. Nullable in *some* versions is not told apart: a null is written as
//!   null whatever the version, so who builds a request leaves a name out only where the schema allows it
//!   (`MetadataRequestTopic::name` since version 10). A null that should not be is read as empty, as brokers once sent it.
//! * A [`Secret`](super::Secret) is written as what it holds; `{:?}` does not show it.
//! * Nothing says whether lengths are compact and tagged sections exist: that is the version's [`Version::flexible`], from
//!   the first flexible version in `api!`.
//!
//! To speak a newer version of an API, add the rows of its new fields and raise the newest version in its `api!`; to
//! speak a new API, add a file with both structs and an `api!`, and its number to `ApiKey`: `CONTRIBUTING.md` shows both.
//! The test `wire_oracle` then wants the names of the fields, and holds every version against Kafka's schemas.
//!
//! Where a version says the same in another way (topics by id, several groups at once), both ways are rows, and who builds
//! a request may fill both. `up_to` in `api!` keeps one that was not filled for the newer way to the versions before it.
//!
//! # What it becomes
//!
//! A struct with `Default`, and [`Wire`]: `write` is one `if` and one `write` per field, `read` the same with `read`. Types
//! do the rest: a number is big-endian, a string, a byte string and an array begin with a length ([`put_length`],
//! [`Decoder::length`]), a struct is its fields. Reading takes no memory for more elements than the rest of the frame has
//! bytes for, and for all values together no more than [`Decoder`] says.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{DecodeError, Decoder, Encoder};

/// A string of the protocol; cheap to clone, so that building a request does not allocate for its topics.
pub type Str = Arc<str>;

/// The version a value is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The API version.
    pub number: i16,
    /// Whether it is flexible (KIP-482).
    pub flexible: bool,
}

/// A value that knows its bytes in every version.
pub trait Wire: Sized {
    /// The fewest bytes a value can have; bounds how many elements an array of a given length can claim to have.
    const LEAST: usize;
    /// Appends the value.
    fn write(&self, out: &mut Encoder, v: Version);
    /// Reads a value.
    fn read(d: &mut Decoder, v: Version) -> Result<Self, DecodeError>;
}

/// A topic's identity (KIP-516); all zero means unknown.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Whether it is the id of nothing: a broker older than 2.8 has no topic ids.
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

macro_rules! number {
    ($($ty:ty: $put:ident $get:ident,)*) => {$(
        impl Wire for $ty {
            const LEAST: usize = size_of::<Self>();
            fn write(&self, out: &mut Encoder, _: Version) { out.$put(*self); }
            fn read(d: &mut Decoder, _: Version) -> Result<Self, DecodeError> { d.$get() }
        }
    )*};
}
number!(i8: put_i8 i8, i16: put_i16 i16, i32: put_i32 i32, i64: put_i64 i64,);

impl Wire for bool {
    const LEAST: usize = 1;
    fn write(&self, out: &mut Encoder, _: Version) {
        out.put_i8(i8::from(*self));
    }
    fn read(d: &mut Decoder, _: Version) -> Result<Self, DecodeError> {
        Ok(d.i8()? != 0)
    }
}

impl Wire for Uuid {
    const LEAST: usize = 16;
    fn write(&self, out: &mut Encoder, _: Version) {
        out.put_slice(&self.0);
    }
    fn read(d: &mut Decoder, _: Version) -> Result<Self, DecodeError> {
        d.uuid().map(Self)
    }
}

fn put_length(out: &mut Encoder, length: Option<usize>, wide: bool, v: Version) {
    debug_assert!(
        wide || v.flexible || length.is_none_or(|n| n <= i16::MAX as usize),
        "a string is too long for its length"
    );
    match (v.flexible, wide) {
        (true, _) => out.put_uvarint(length.map_or(0, |n| n as u32 + 1)),
        (false, true) => out.put_i32(length.map_or(-1, |n| n as i32)),
        (false, false) => out.put_i16(length.map_or(-1, |n| n as i16)),
    }
}

/// What a string takes besides its text: the two counters of its `Arc`.
const STRING_HEAD: usize = 2 * size_of::<usize>();
const STRING_ALIGN: usize = align_of::<usize>();

impl Wire for Option<Str> {
    const LEAST: usize = 1;
    fn write(&self, out: &mut Encoder, v: Version) {
        put_length(out, self.as_ref().map(|s| s.len()), false, v);
        out.put_slice(self.as_ref().map_or(&[], |s| s.as_bytes()));
    }
    fn read(d: &mut Decoder, v: Version) -> Result<Self, DecodeError> {
        let Some(n) = d.length("a string", v.flexible, false, 1)? else { return Ok(None) };
        if n == 0 {
            // Takes no memory.
            return Ok(Some(Str::default()));
        }
        d.charge(STRING_HEAD + n.next_multiple_of(STRING_ALIGN))?;
        let bytes = d.take(n)?;
        Ok(Some(std::str::from_utf8(&bytes).map_err(|_| DecodeError::NotUtf8)?.into()))
    }
}

impl Wire for Str {
    const LEAST: usize = 1;
    fn write(&self, out: &mut Encoder, v: Version) {
        put_length(out, Some(self.len()), false, v);
        out.put_slice(self.as_bytes());
    }
    fn read(d: &mut Decoder, v: Version) -> Result<Self, DecodeError> {
        // Brokers send null where the schema has an empty string; both mean "nothing".
        Ok(Option::<Self>::read(d, v)?.unwrap_or_default())
    }
}

impl Wire for Option<Bytes> {
    const LEAST: usize = 1;
    fn write(&self, out: &mut Encoder, v: Version) {
        put_length(out, self.as_ref().map(Bytes::len), true, v);
        if let Some(records) = self {
            out.put_records(records);
        }
    }
    fn read(d: &mut Decoder, v: Version) -> Result<Self, DecodeError> {
        d.length("a byte string", v.flexible, true, 1)?.map(|n| d.take(n)).transpose()
    }
}

impl Wire for Bytes {
    const LEAST: usize = 1;
    fn write(&self, out: &mut Encoder, v: Version) {
        put_length(out, Some(self.len()), true, v);
        out.put_records(self);
    }
    fn read(d: &mut Decoder, v: Version) -> Result<Self, DecodeError> {
        Ok(Option::<Self>::read(d, v)?.unwrap_or_default())
    }
}

impl<T: Wire> Wire for Option<Vec<T>> {
    const LEAST: usize = 1;
    fn write(&self, out: &mut Encoder, v: Version) {
        put_length(out, self.as_ref().map(Vec::len), true, v);
        self.iter().flatten().for_each(|item| item.write(out, v));
    }
    fn read(d: &mut Decoder, v: Version) -> Result<Self, DecodeError> {
        let Some(n) = d.length("an array", v.flexible, true, T::LEAST.max(1))? else { return Ok(None) };
        // A value in memory is larger than its bytes on the wire: what all may take together is bounded. Exactly so many
        // are made room for, because growing would take more than the bound has room for.
        d.charge(n.saturating_mul(size_of::<T>()))?;
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(T::read(d, v)?);
        }
        Ok(Some(items))
    }
}

impl<T: Wire> Wire for Vec<T> {
    const LEAST: usize = 1;
    fn write(&self, out: &mut Encoder, v: Version) {
        put_length(out, Some(self.len()), true, v);
        self.iter().for_each(|item| item.write(out, v));
    }
    fn read(d: &mut Decoder, v: Version) -> Result<Self, DecodeError> {
        Ok(Option::<Self>::read(d, v)?.unwrap_or_default())
    }
}

/// The default of a field: the one stated, else its type's.
macro_rules! default_of {
    () => {
        Default::default()
    };
    ($value:expr) => {
        $value
    };
}

/// Declares a struct of the protocol; see the module.
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fmeta:meta])* pub $field:ident: $ty:ty $(= $default:expr)? => $range:expr, )*
        } $( tagged {
            $( $(#[$tmeta:meta])* $tag:literal: pub $tfield:ident: $tty:ty $(= $tdefault:expr)? => $trange:expr, )*
        } )?
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub struct $name {
            $( $(#[$fmeta])* pub $field: $ty, )*
            $($( $(#[$tmeta])* pub $tfield: $tty, )*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $( $field: default_of!($($default)?), )*
                    $($( $tfield: default_of!($($tdefault)?), )*)?
                }
            }
        }

        impl Wire for $name {
            // A struct may have no field at all in some version; counting one byte keeps arrays bounded.
            const LEAST: usize = 1;

            fn write(&self, out: &mut Encoder, v: Version) {
                $( if ($range).contains(&v.number) { self.$field.write(out, v); } )*
                if v.flexible {
                    #[allow(unused_mut)]
                    let mut tagged: Vec<(u32, bytes::Bytes)> = Vec::new();
                    $($(
                        let default: $tty = default_of!($($tdefault)?);
                        if ($trange).contains(&v.number) && self.$tfield != default {
                            let mut field = Encoder::new();
                            self.$tfield.write(&mut field, v);
                            tagged.push(($tag, field.into_bytes()));
                        }
                    )*)?
                    out.put_uvarint(tagged.len() as u32);
                    for (tag, bytes) in tagged {
                        out.put_uvarint(tag);
                        out.put_uvarint(bytes.len() as u32);
                        out.put_slice(&bytes);
                    }
                }
            }

            fn read(d: &mut Decoder, v: Version) -> Result<Self, DecodeError> {
                #[allow(unused_mut)]
                let mut value = Self::default();
                $( if ($range).contains(&v.number) { value.$field = Wire::read(d, v)?; } )*
                if v.flexible {
                    #[allow(unused_variables)]
                    d.tagged_fields(|tag, d| {
                        $($( if tag == $tag && ($trange).contains(&v.number) { value.$tfield = Wire::read(d, v)?; } )*)?
                        Ok(())
                    })?;
                }
                Ok(value)
            }
        }
    )*};
}

/// Says which API a request is of, its versions, where flexible ones begin, and what answers it.
/// `flexible never` is for the requests whose form must not change; `up_to` is [`Request::up_to`](super::Request::up_to), `from` is
/// [`Request::from`](super::Request::from).
macro_rules! api {
    (
        $request:ident => $response:ident, $key:ident, $oldest:literal..=$newest:literal, flexible $flexible:tt
        $(, up_to |$this:ident| $up_to:expr)? $(, from |$that:ident| $from:expr)?
    ) => {
        impl $crate::wire::Request for $request {
            const KEY: $crate::wire::ApiKey = $crate::wire::ApiKey::$key;
            const VERSIONS: (i16, i16) = ($oldest, $newest);
            const FLEXIBLE: i16 = first_flexible!($flexible);
            type Response = $response;
            $(
                fn up_to(&self) -> i16 {
                    let $this = self;
                    $up_to
                }
            )?
            $(
                fn from(&self) -> i16 {
                    let $that = self;
                    $from
                }
            )?
        }
    };
}

macro_rules! first_flexible {
    (never) => {
        i16::MAX
    };
    ($version:literal) => {
        $version
    };
}

pub(super) use {api, default_of, first_flexible, message};
