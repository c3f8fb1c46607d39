//! The one form in which every message is declared.

/// Declares structures of the protocol together with their reader, writer, defaults and (for tests) random values.
///
/// ```text
/// name: type [= default] [, in versions] [, null versions] [, tag number];
/// ```
///
/// - `= default`: the value of a field that its version does not have; the type's own default when not said.
/// - `in`: versions that have the field; all when not said. Elsewhere it is neither read nor written.
/// - `null`: versions in which an `Option` may be null; all when not said. Elsewhere a null is refused when read and
///   written as empty.
/// - `tag`: a tagged field, written only when it differs from its default. In ascending order.
macro_rules! message {
    ($(
        $(#[$meta:meta])*
        pub struct $name:ident $(<$lt:lifetime>)? {
            $(
                $(#[$field_meta:meta])*
                $field:ident: $ty:ty $(= $default:expr)? $(, in $versions:expr)? $(, null $null:expr)?
                    $(, tag $tag:literal)?;
            )*
        }
    )+) => {$(
        $(#[$meta])*
        #[allow(missing_docs, reason = "the fields are named as in the protocol's published schemas")]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name $(<$lt>)? {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl $(<$lt>)? Default for $name $(<$lt>)? {
            fn default() -> Self {
                $name { $($field: $crate::codec::message::default_of!($($default)?),)* }
            }
        }

        #[allow(unused_mut, unused_variables, reason = "some structures have no fields in some forms")]
        impl<'a> $crate::codec::Field<'a> for $name $(<$lt>)? {
            fn read(reader: &mut wire::Reader<'a>, version: $crate::codec::Version) -> wire::Result<Self> {
                let mut value = Self::default();
                $($crate::codec::message::if_plain!([$($tag)?]
                    if $crate::codec::message::in_versions!(version $(, $versions)?) {
                        value.$field = $crate::codec::Field::read(reader, version)?;
                        if $crate::codec::Field::is_null(&value.$field)
                            && !$crate::codec::message::in_versions!(version $(, $null)?)
                        {
                            return Err($crate::codec::field::NULL);
                        }
                    }
                );)*
                if version.flexible {
                    $crate::codec::field::read_tagged(reader, |tag, reader| {
                        $($crate::codec::message::if_tagged!([$($tag)?]
                            if tag == $($tag)? && $crate::codec::message::in_versions!(version $(, $versions)?) {
                                value.$field = $crate::codec::Field::read(reader, version)?;
                                return Ok(true);
                            }
                        );)*
                        Ok(false)
                    })?;
                }
                Ok(value)
            }

            fn write(&self, writer: &mut wire::Writer, version: $crate::codec::Version) {
                $($crate::codec::message::if_plain!([$($tag)?]
                    if $crate::codec::message::in_versions!(version $(, $versions)?) {
                        if $crate::codec::message::in_versions!(version $(, $null)?) {
                            $crate::codec::Field::write(&self.$field, writer, version);
                        } else {
                            $crate::codec::Field::write_not_null(&self.$field, writer, version);
                        }
                    }
                );)*
                if version.flexible {
                    let mut tagged = $crate::codec::field::Tagged::default();
                    $($crate::codec::message::if_tagged!([$($tag)?]
                        let default: $ty = $crate::codec::message::default_of!($($default)?);
                        if $crate::codec::message::in_versions!(version $(, $versions)?) && self.$field != default {
                            tagged.push($($tag)?, &self.$field, version);
                        }
                    );)*
                    tagged.write(writer);
                }
            }
        }

        /// A structure that may be null carries a byte that says whether it is there.
        impl<'a> $crate::codec::field::Nullable<'a> for $name $(<$lt>)? {
            fn read_nullable(
                reader: &mut wire::Reader<'a>,
                version: $crate::codec::Version,
            ) -> wire::Result<Option<Self>> {
                match reader.i8()? {
                    ..0 => Ok(None),
                    _ => $crate::codec::Field::read(reader, version).map(Some),
                }
            }

            fn write_null(writer: &mut wire::Writer, _: $crate::codec::Version) {
                writer.i8(-1);
            }

            fn write_some(&self, writer: &mut wire::Writer, version: $crate::codec::Version) {
                writer.i8(1);
                $crate::codec::Field::write(self, writer, version);
            }
        }

        #[cfg(test)]
        #[allow(unused_mut, unused_variables, reason = "some structures have no fields in some forms")]
        impl $(<$lt>)? $crate::codec::sample::Sample for $name $(<$lt>)? {
            fn sample(rng: &mut $crate::codec::sample::Rng, version: $crate::codec::Version) -> Self {
                let mut value = Self::default();
                $(
                    if $crate::codec::message::in_versions!(version $(, $versions)?) {
                        value.$field = $crate::codec::sample::Sample::sample(rng, version);
                        while $crate::codec::Field::is_null(&value.$field)
                            && !$crate::codec::message::in_versions!(version $(, $null)?)
                        {
                            value.$field = $crate::codec::sample::Sample::sample(rng, version);
                        }
                    }
                )*
                value
            }
        }
    )+};
}

/// Whether the version is among those said; all are when none is said.
macro_rules! in_versions {
    ($version:expr) => {
        true
    };
    ($version:expr, $versions:expr) => {
        ($versions).contains(&$version.number)
    };
}

/// The default that was said, or the type's own.
macro_rules! default_of {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// The code, for a field without a tag.
macro_rules! if_plain {
    ([] $($code:tt)*) => { $($code)* };
    ([$tag:literal] $($code:tt)*) => {};
}

/// The code, for a field with a tag.
macro_rules! if_tagged {
    ([] $($code:tt)*) => {};
    ([$tag:literal] $($code:tt)*) => { $($code)* };
}

pub(crate) use {default_of, if_plain, if_tagged, in_versions, message};
