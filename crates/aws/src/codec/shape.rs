//! How structures are declared: once, for both protocols.

/// Declares an input: its fields with their names in JSON, and behind a slash their names in the Query protocol where
/// those differ.
macro_rules! input {
    (
        $(#[$meta:meta])*
        $name:ident {
            $($(#[$doc:meta])* $field:ident: $type:ty = $json:literal $(/ $query:literal)?,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name<'a> {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl<'a> $crate::codec::decode::Decode<'a> for $name<'a> {
            fn decode(
                node: $crate::codec::Node<'a>,
                at: &$crate::codec::decode::At<'_>,
            ) -> Result<Self, $crate::AwsError> {
                let mut members = $crate::codec::decode::Members::of(node, at)?;
                Ok($name {
                    $($field: members.take($json, $crate::codec::input!(@query $json $($query)?), at)?,)*
                })
            }
        }
    };
    (@query $json:literal) => { $json };
    (@query $json:literal $query:literal) => { $query };
}

/// Declares an output likewise: names in JSON, and behind a slash the names of XML's elements where those differ.
macro_rules! output {
    (
        $(#[$meta:meta])*
        $name:ident {
            $($(#[$doc:meta])* $field:ident: $type:ty = $json:literal $(/ $xml:literal)?,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl $crate::codec::encode::Encode for $name {
            fn json(&self, out: &mut Vec<u8>) {
                let mut object = $crate::codec::encode::Object::open(out);
                $(object.member($json, &self.$field);)*
                object.close();
            }

            fn xml(&self, name: &str, out: &mut Vec<u8>) {
                $crate::codec::encode::element(name, out, |out| {
                    $crate::codec::encode::Structure::xml_members(self, out);
                });
            }
        }

        impl $crate::codec::encode::Structure for $name {
            fn xml_members(&self, out: &mut Vec<u8>) {
                $($crate::codec::encode::Encode::xml(
                    &self.$field,
                    $crate::codec::input!(@query $json $($xml)?),
                    out,
                );)*
            }
        }
    };
}

pub(crate) use {input, output};
