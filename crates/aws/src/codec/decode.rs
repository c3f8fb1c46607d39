//! Trees to typed values, the same way for every operation and both protocols.

use std::{borrow::Cow, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};

use super::{Node, Wire};
use crate::AwsError;

/// Where in a request a value stands, for texts, and which protocol's rules hold.
#[derive(Clone, Copy)]
pub(crate) struct At<'p> {
    pub wire: Wire,
    parent: Option<&'p At<'p>>,
    name: &'p str,
}

impl<'p> At<'p> {
    /// The request itself.
    pub(crate) fn top(wire: Wire) -> At<'static> {
        At { wire, parent: None, name: "" }
    }

    /// What is called `name` in there.
    pub(crate) fn member(&'p self, name: &'p str) -> At<'p> {
        At { wire: self.wire, parent: Some(self), name }
    }
}

/// The name as AWS's texts have it: `SendMessageBatchRequestEntry.1.Id`.
impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parent {
            Some(parent) if !parent.name.is_empty() => write!(f, "{parent}.{}", self.name),
            _ => f.write_str(self.name),
        }
    }
}

/// A value that a tree can be turned into.
pub(crate) trait Decode<'a>: Sized {
    /// The value of `node`, which is not null.
    fn decode(node: Node<'a>, at: &At<'_>) -> Result<Self, AwsError>;

    /// The value where there is none.
    fn absent(at: &At<'_>) -> Result<Self, AwsError> {
        Err(AwsError::missing(at))
    }
}

/// The members of a structure, taken out one after the other.
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, Node<'a>)>);

impl<'a> Members<'a> {
    pub(crate) fn of(node: Node<'a>, at: &At<'_>) -> Result<Self, AwsError> {
        match node {
            Node::Map(members) => Ok(Members(members)),
            Node::Null => Ok(Members(Vec::new())),
            other => Err(unexpected(&other, at.wire, "Structure")),
        }
    }

    /// The member called `json` in JSON; in the Query protocol also, and rather, `query`. The last of several.
    pub(crate) fn take<T: Decode<'a>>(
        &mut self,
        json: &'static str,
        query: &'static str,
        at: &At<'_>,
    ) -> Result<T, AwsError> {
        let mut last = |name: &str| {
            let found = self.0.iter_mut().rev().find(|(other, _)| other == name);
            found.map(|(_, node)| std::mem::replace(node, Node::Null))
        };
        let (name, node) = match at.wire {
            Wire::Json => (json, last(json)),
            Wire::Query => (query, last(query).or_else(|| last(json))),
        };
        match node {
            None | Some(Node::Null) => T::absent(&at.member(name)),
            Some(node) => T::decode(node, &at.member(name)),
        }
    }
}

/// A value of another kind than `wanted`, in AWS's words.
fn unexpected(node: &Node<'_>, wire: Wire, wanted: &str) -> AwsError {
    if wire == Wire::Query {
        return AwsError::malformed_input(match node {
            Node::Map(_) => "Start of structure or map found where not expected.",
            _ => "Unexpected complex element termination",
        });
    }
    let article = if wanted.starts_with(['A', 'E', 'I', 'O', 'U']) { "an" } else { "a" };
    let found = match node {
        Node::Map(_) => {
            return AwsError::serialization("Start of structure or map found where not expected.");
        }
        Node::List(_) => return AwsError::serialization("Start of list found where not expected"),
        Node::Null => "NULL_VALUE",
        Node::Bool(true) => "TRUE_VALUE",
        Node::Bool(false) => "FALSE_VALUE",
        Node::Number(_) => "NUMBER_VALUE",
        Node::Text(_) => "STRING_VALUE",
    };
    AwsError::serialization(format!("{found} can not be converted to {article} {wanted}"))
}

impl<'a> Decode<'a> for Cow<'a, str> {
    fn decode(node: Node<'a>, at: &At<'_>) -> Result<Self, AwsError> {
        match node {
            Node::Text(text) => Ok(text),
            other => Err(unexpected(&other, at.wire, "String")),
        }
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Option<T> {
    fn decode(node: Node<'a>, at: &At<'_>) -> Result<Self, AwsError> {
        T::decode(node, at).map(Some)
    }

    fn absent(_at: &At<'_>) -> Result<Self, AwsError> {
        Ok(None)
    }
}

impl<'a> Decode<'a> for i32 {
    fn decode(node: Node<'a>, at: &At<'_>) -> Result<Self, AwsError> {
        match (&node, at.wire) {
            (Node::Number(text), _) => integer(text)
                .ok_or_else(|| AwsError::serialization("NUMBER_VALUE can not be converted to an Integer")),
            (Node::Text(text), Wire::Query) => {
                text.parse().map_err(|_| AwsError::invalid_value(text, at, "Must be an integer."))
            }
            _ => Err(unexpected(&node, at.wire, "Integer")),
        }
    }
}

/// A JSON number as an integer: what is behind the point is cut off, as AWS does it.
fn integer(text: &str) -> Option<i32> {
    if let Ok(plain) = text.parse() {
        return Some(plain);
    }
    let number: f64 = text.parse().ok()?;
    let whole = number.trunc();
    let fits = whole >= f64::from(i32::MIN) && whole <= f64::from(i32::MAX);
    // The value was checked to fit; there is no fallible conversion from floating point.
    #[allow(clippy::cast_possible_truncation)]
    fits.then_some(whole as i32)
}

/// Bytes, in Base64 on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl<'a> Decode<'a> for Blob {
    fn decode(node: Node<'a>, at: &At<'_>) -> Result<Self, AwsError> {
        let Node::Text(text) = &node else { return Err(unexpected(&node, at.wire, "Blob")) };
        BASE64_STANDARD.decode(text.as_bytes()).map(Blob).map_err(|_| match at.wire {
            Wire::Json => AwsError::serialization("The value is not Base64."),
            Wire::Query => AwsError::malformed_input("The value is not Base64."),
        })
    }
}

/// A list; one that is not there is empty.
impl<'a, T: Decode<'a>> Decode<'a> for Vec<T> {
    fn decode(node: Node<'a>, at: &At<'_>) -> Result<Self, AwsError> {
        match (node, at.wire) {
            (Node::List(items), _) => {
                let filled = items.into_iter().filter(|item| *item != Node::Null).enumerate();
                filled.map(|(index, item)| T::decode(item, &at.member(&(index + 1).to_string()))).collect()
            }
            (Node::Map(members), Wire::Query) => numbered(members, "member")?
                .into_iter()
                .map(|(number, item)| T::decode(item, &at.member(&number.to_string())))
                .collect(),
            // What SDKs write for an empty list.
            (Node::Text(text), Wire::Query) if text.is_empty() => Ok(Vec::new()),
            // One item without its number, as people type it.
            (node @ Node::Text(_), Wire::Query) => T::decode(node, at).map(|item| vec![item]),
            (other, wire) => Err(unexpected(&other, wire, "List")),
        }
    }

    fn absent(_at: &At<'_>) -> Result<Self, AwsError> {
        Ok(Vec::new())
    }
}

/// Numbered parameters (`X.1`, or `X.member.1` where `wrapper` is `member`) in the order of their numbers, which may have
/// holes.
fn numbered<'a>(
    mut members: Vec<(Cow<'a, str>, Node<'a>)>,
    wrapper: &str,
) -> Result<Vec<(u32, Node<'a>)>, AwsError> {
    if let [(name, Node::Map(_))] = members.as_slice()
        && name == wrapper
        && let Some((_, Node::Map(below))) = members.pop()
    {
        return numbered(below, "");
    }
    let number = |(name, node): (Cow<'a, str>, Node<'a>)| {
        let number: Option<i32> = name.parse().ok().filter(|number| *number > 0);
        let number = number.and_then(|number| u32::try_from(number).ok());
        number
            .map(|number| (number, node))
            .ok_or_else(|| AwsError::malformed_input("Unexpected list element termination"))
    };
    let mut items = members.into_iter().map(number).collect::<Result<Vec<_>, _>>()?;
    items.sort_by_key(|(number, _)| *number);
    Ok(items)
}

/// A map, in the order of the request; one that is not there is empty. For a name that is there twice, the last value
/// holds and the others are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs<'a, V>(pub Vec<(Cow<'a, str>, V)>);

impl<V> Default for Pairs<'_, V> {
    fn default() -> Self {
        Pairs(Vec::new())
    }
}

impl<'a, V> Pairs<'a, V> {
    /// The value of `name`.
    pub fn find(&self, name: &str) -> Option<&V> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    fn from_all(all: Vec<(Cow<'a, str>, V)>) -> Self {
        let mut seen = std::collections::HashSet::with_capacity(all.len());
        let mut kept: Vec<_> = all.into_iter().rev().filter(|(name, _)| seen.insert(name.clone())).collect();
        kept.reverse();
        Pairs(kept)
    }
}

impl<'a, V: Decode<'a>> Decode<'a> for Pairs<'a, V> {
    fn decode(node: Node<'a>, at: &At<'_>) -> Result<Self, AwsError> {
        match (node, at.wire) {
            (Node::Map(members), Wire::Json) => {
                let filled = members.into_iter().filter(|(_, value)| *value != Node::Null);
                let pair = |(name, value): (Cow<'a, str>, Node<'a>)| {
                    let value = V::decode(value, &at.member(&name))?;
                    Ok((name, value))
                };
                filled.map(pair).collect::<Result<Vec<_>, AwsError>>().map(Pairs::from_all)
            }
            (Node::Map(members), Wire::Query) => numbered(members, "entry")?
                .into_iter()
                .map(|(number, entry)| entry_of(entry, &at.member(&number.to_string())))
                .collect::<Result<Vec<_>, AwsError>>()
                .map(Pairs::from_all),
            // What SDKs write for an empty map.
            (Node::Text(text), Wire::Query) if text.is_empty() => Ok(Pairs::default()),
            (other, wire) => Err(unexpected(&other, wire, "Map")),
        }
    }

    fn absent(_at: &At<'_>) -> Result<Self, AwsError> {
        Ok(Pairs::default())
    }
}

/// One entry of a map in the Query protocol: its name under `Name` or `Key`, whatever the case of the first letter.
fn entry_of<'a, V: Decode<'a>>(entry: Node<'a>, at: &At<'_>) -> Result<(Cow<'a, str>, V), AwsError> {
    let mut members = Members::of(entry, at)?;
    for member in &mut members.0 {
        member.0 = match member.0.as_ref() {
            "Key" | "key" | "name" => Cow::Borrowed("Name"),
            "value" => Cow::Borrowed("Value"),
            _ => continue,
        };
    }
    Ok((members.take("Name", "Name", at)?, members.take("Value", "Value", at)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{json, query};

    fn from_json<'a, T: Decode<'a>>(text: &'a str) -> Result<T, AwsError> {
        let node = json::parse(text.as_bytes())?;
        Members::of(node, &At::top(Wire::Json))?.take("Field", "Fields", &At::top(Wire::Json))
    }

    fn from_query<'a, T: Decode<'a>>(text: &'a str) -> Result<T, AwsError> {
        let mut parameters = Vec::new();
        query::parse(text.as_bytes(), &mut parameters)?;
        let node = query::tree(parameters)?;
        Members::of(node, &At::top(Wire::Query))?.take("Field", "Fields", &At::top(Wire::Query))
    }

    fn refused(outcome: Result<i32, AwsError>, code: &str, message: &str) {
        let error = outcome.unwrap_err();
        assert_eq!((error.code, error.message.as_ref()), (code, message));
    }

    #[test]
    fn integers_of_json_are_numbers() {
        assert_eq!(from_json::<i32>("{\"Field\":30}").unwrap(), 30);
        assert_eq!(from_json::<i32>("{\"Field\":-1}").unwrap(), -1);
        assert_eq!(from_json::<i32>("{\"Field\":30.9}").unwrap(), 30);
        assert_eq!(from_json::<i32>("{\"Field\":1e2}").unwrap(), 100);
        let code = "SerializationException";
        refused(from_json("{\"Field\":\"30\"}"), code, "STRING_VALUE can not be converted to an Integer");
        refused(from_json("{\"Field\":true}"), code, "TRUE_VALUE can not be converted to an Integer");
        refused(from_json("{\"Field\":[]}"), code, "Start of list found where not expected");
        refused(from_json("{\"Field\":{}}"), code, "Start of structure or map found where not expected.");
        refused(from_json("{\"Field\":2147483648}"), code, "NUMBER_VALUE can not be converted to an Integer");
        refused(from_json("{\"Field\":1e999}"), code, "NUMBER_VALUE can not be converted to an Integer");
    }

    #[test]
    fn integers_of_forms_are_texts() {
        assert_eq!(from_query::<i32>("Fields=30").unwrap(), 30);
        let code = "InvalidParameterValue";
        refused(
            from_query("Fields=x"),
            code,
            "Value x for parameter Fields is invalid. Reason: Must be an integer.",
        );
    }

    #[test]
    fn what_must_be_there_is_asked_for_by_its_name() {
        refused(from_json("{}"), "MissingParameter", "The request must contain the parameter Field.");
        refused(
            from_json("{\"Field\":null}"),
            "MissingParameter",
            "The request must contain the parameter Field.",
        );
        refused(from_query(""), "MissingParameter", "The request must contain the parameter Fields.");
    }

    #[test]
    fn the_last_of_two_members_holds() {
        assert_eq!(from_json::<i32>("{\"Field\":1,\"Field\":2}").unwrap(), 2);
    }

    #[test]
    fn lists_are_read_in_the_order_of_their_numbers_in_every_spelling() {
        for text in [
            "Fields.2=b&Fields.1=a&Fields.10=c",
            "Fields.member.1=a&Fields.member.2=b&Fields.member.7=c",
            "Field.1=a&Field.2=b&Field.2147483647=c",
        ] {
            assert_eq!(from_query::<Vec<Cow<'_, str>>>(text).unwrap(), ["a", "b", "c"], "{text}");
        }
        assert_eq!(from_query::<Vec<Cow<'_, str>>>("Fields=a").unwrap(), ["a"]);
        for empty in ["", "Fields="] {
            assert_eq!(from_query::<Vec<Cow<'_, str>>>(empty).unwrap(), [""; 0], "{empty}");
            assert_eq!(from_query::<Pairs<'_, i32>>(empty).unwrap(), Pairs::default(), "{empty}");
        }
        assert_eq!(from_json::<Vec<Cow<'_, str>>>("{\"Field\":[\"a\",null,\"b\"]}").unwrap(), ["a", "b"]);
    }

    #[test]
    fn numbers_that_no_list_has_are_refused() {
        for wrong in ["Fields.0=a", "Fields.4294967295=a", "Fields.-1=a", "Fields.x=a", "Fields.member.x=a"] {
            let error = from_query::<Vec<Cow<'_, str>>>(wrong).unwrap_err();
            assert_eq!(error.code, "MalformedInput", "{wrong}");
        }
    }

    #[test]
    fn maps_are_read_in_every_spelling() {
        let expected = Pairs(vec![("a".into(), 1), ("b".into(), 2)]);
        assert_eq!(from_json::<Pairs<'_, i32>>("{\"Field\":{}}").unwrap(), Pairs::default());
        for text in [
            "Fields.1.Name=a&Fields.1.Value=1&Fields.2.Name=b&Fields.2.Value=2",
            "Fields.1.Key=a&Fields.1.Value=1&Fields.2.Key=b&Fields.2.Value=2",
            "Field.entry.1.key=a&Field.entry.1.value=1&Field.entry.2.key=b&Field.entry.2.value=2",
        ] {
            let mut parameters = Vec::new();
            query::parse(text.as_bytes(), &mut parameters).unwrap();
            let top = At::top(Wire::Query);
            let mut members = Members::of(query::tree(parameters).unwrap(), &top).unwrap();
            assert_eq!(members.take::<Pairs<'_, i32>>("Field", "Fields", &top).unwrap(), expected, "{text}");
        }
        let body = b"{\"Field\":{\"a\":7,\"b\":2,\"a\":1}}";
        let top = At::top(Wire::Json);
        let mut members = Members::of(json::parse(body).unwrap(), &top).unwrap();
        let pairs = members.take::<Pairs<'_, i32>>("Field", "Fields", &top).unwrap();
        assert_eq!(pairs, Pairs(vec![("b".into(), 2), ("a".into(), 1)]));
        assert_eq!(pairs.find("a"), Some(&1));
    }

    #[test]
    fn blobs_are_base64() {
        assert_eq!(from_json::<Blob>("{\"Field\":\"AAEC\"}").unwrap(), Blob(vec![0, 1, 2]));
        assert_eq!(from_json::<Blob>("{\"Field\":\"?\"}").unwrap_err().code, "SerializationException");
        assert_eq!(from_query::<Blob>("Field=%3F").unwrap_err().code, "MalformedInput");
    }
}
