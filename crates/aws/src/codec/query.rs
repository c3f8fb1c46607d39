//! Form parameters to trees: `Tag.1.Key=a` becomes the value `a` in a map in a map in a map.

use std::{borrow::Cow, cmp::Ordering};

use super::{DEPTH_MAX, NODES_MAX, Node};
use crate::AwsError;

/// Parameters, as they are in a body or behind a question mark, in the order of their bytes.
pub(crate) type Parameters<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Reads parameters and appends them to `parameters`.
pub(crate) fn parse<'a>(bytes: &'a [u8], parameters: &mut Parameters<'a>) -> Result<(), AwsError> {
    for pair in bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        if parameters.len() == NODES_MAX {
            return Err(AwsError::malformed_input("The request has too many parameters."));
        }
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let (name, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        parameters.push((decoded(name)?, decoded(value)?));
    }
    Ok(())
}

/// Undoes the escapes of `application/x-www-form-urlencoded`.
fn decoded(bytes: &[u8]) -> Result<Cow<'_, str>, AwsError> {
    let wrong = || AwsError::malformed_query_string("The query string contains a syntax error.");
    if memchr::memchr2(b'%', b'+', bytes).is_none() {
        return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| wrong());
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            b'+' => plain.push(b' '),
            b'%' => {
                let ([high, low], after) = after.split_first_chunk::<2>().ok_or_else(wrong)?;
                plain.push(hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low).ok_or_else(wrong)?);
                rest = after;
            }
            other => plain.push(*other),
        }
    }
    String::from_utf8(plain).map(Cow::Owned).map_err(|_| wrong())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The tree that the parameters' names describe.
pub(crate) fn tree<'a>(mut parameters: Parameters<'a>) -> Result<Node<'a>, AwsError> {
    parameters.sort_by(|(a, _), (b, _)| compare(a, b));
    let mut slots: Vec<_> = parameters.into_iter().map(|(name, value)| (name, Some(value))).collect();
    level(&mut slots, 0, 0)
}

/// By segments, so that whatever is below one name lies together.
fn compare(a: &str, b: &str) -> Ordering {
    a.split('.').cmp(b.split('.'))
}

/// A parameter whose value was not yet put into the tree.
type Slot<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

/// The node that has `slots` below it; their names agree up to the byte `from`.
fn level<'a>(slots: &mut [Slot<'a>], from: usize, depth: usize) -> Result<Node<'a>, AwsError> {
    if depth == DEPTH_MAX {
        return Err(AwsError::malformed_input("A parameter's name has too many parts."));
    }
    let mut members = Vec::new();
    let mut rest = slots;
    while let Some((first, _)) = rest.first() {
        let name = segment(first, from);
        let same = rest.iter().take_while(|(other, _)| part(other, from) == name.as_ref()).count();
        let (below, after) = rest.split_at_mut(same.max(1));
        let next = from + name.len() + 1;
        // The shortest names sort first: those that end here, then those that go on.
        let ending = below.iter().take_while(|(name, _)| name.len() < next).count();
        let node = match below.get_mut(ending..) {
            Some(deeper) if !deeper.is_empty() => {
                if ending > 0 {
                    return Err(AwsError::malformed_input("Unexpected complex element termination"));
                }
                level(deeper, next, depth + 1)?
            }
            _ => Node::Text(below.last_mut().and_then(|(_, value)| value.take()).unwrap_or_default()),
        };
        members.push((name, node));
        rest = after;
    }
    Ok(Node::Map(members))
}

/// The part of `name` between the byte `from` and the next dot.
fn part(name: &str, from: usize) -> &str {
    name.get(from..).and_then(|rest| rest.split('.').next()).unwrap_or_default()
}

fn segment<'a>(name: &Cow<'a, str>, from: usize) -> Cow<'a, str> {
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(part(name, from)),
        Cow::Owned(name) => Cow::Owned(part(name, from).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Node<'_>, AwsError> {
        let mut parameters = Vec::new();
        parse(text.as_bytes(), &mut parameters)?;
        tree(parameters)
    }

    fn text(value: &str) -> Node<'_> {
        Node::Text(Cow::Borrowed(value))
    }

    fn map<'a>(members: Vec<(&'a str, Node<'a>)>) -> Node<'a> {
        Node::Map(members.into_iter().map(|(name, node)| (Cow::Borrowed(name), node)).collect())
    }

    #[test]
    fn names_with_dots_become_maps() {
        assert_eq!(
            read("Tag.2.Key=c&QueueUrl=u&Tag.1.Key=a&Tag.1.Value=b%20+%C3%A9").unwrap(),
            map(vec![
                ("QueueUrl", text("u")),
                (
                    "Tag",
                    map(vec![
                        ("1", map(vec![("Key", text("a")), ("Value", text("b  é"))])),
                        ("2", map(vec![("Key", text("c"))])),
                    ])
                ),
            ])
        );
    }

    #[test]
    fn escaped_names_are_names() {
        assert_eq!(read("%54ag%2E1.Key=a").unwrap(), read("Tag.1.Key=a").unwrap());
    }

    #[test]
    fn names_that_share_their_beginning_stay_apart() {
        assert_eq!(
            read("A.1=x&A-b=y&A.1b=z").unwrap(),
            map(vec![("A", map(vec![("1", text("x")), ("1b", text("z"))])), ("A-b", text("y"))])
        );
    }

    #[test]
    fn empty_parts_and_values_are_kept() {
        assert_eq!(read("&&").unwrap(), map(vec![]));
        assert_eq!(read("a&b=").unwrap(), map(vec![("a", text("")), ("b", text(""))]));
        assert_eq!(read("=v").unwrap(), map(vec![("", text("v"))]));
        assert_eq!(read("a.=v").unwrap(), map(vec![("a", map(vec![("", text("v"))]))]));
    }

    #[test]
    fn of_two_values_for_one_name_the_last_holds() {
        assert_eq!(read("a=1&a=2").unwrap(), map(vec![("a", text("2"))]));
    }

    #[test]
    fn a_name_is_a_value_or_has_parts_and_not_both() {
        assert_eq!(read("a=1&a.b=2").unwrap_err().code, "MalformedInput");
    }

    #[test]
    fn broken_escapes_and_bytes_are_refused() {
        for wrong in ["a=%", "a=%1", "a=%1g", "a=%ff", "%=a", "a=%+1"] {
            assert_eq!(read(wrong).unwrap_err().code, "MalformedQueryString", "{wrong}");
        }
    }

    #[test]
    fn count_and_depth_are_bounded() {
        let many = |count: usize| vec!["a=1"; count].join("&");
        assert!(read(&many(NODES_MAX)).is_ok());
        assert_eq!(read(&many(NODES_MAX + 1)).unwrap_err().code, "MalformedInput");
        let deep = |parts: usize| format!("{}=1", vec!["a"; parts].join("."));
        assert!(read(&deep(DEPTH_MAX)).is_ok());
        assert_eq!(read(&deep(DEPTH_MAX + 1)).unwrap_err().code, "MalformedInput");
    }
}
