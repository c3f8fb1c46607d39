//! What is wrong with a request's JSON, in the words of the original's reader, as far as it is about values: the names of its
//! own types are not repeated.

use serde_json::{Error, Value};

use super::error::ApiError;

/// It does not read as JSON.
pub(crate) fn syntax(body: &[u8], error: &Error) -> ApiError {
    ApiError::invalid_json(&syntax_text(body, error, "unexpected EOF"))
}

/// The same; `at_end` is said of what ends too early.
pub(crate) fn syntax_text(body: &[u8], error: &Error, at_end: &str) -> String {
    if error.is_eof() {
        return at_end.to_owned();
    }
    let text = error.to_string();
    let is_value = text.starts_with("expected value") || text.starts_with("trailing characters");
    match place(body, error).filter(|_| is_value) {
        Some((first, offset)) => {
            format!("invalid character {first:?} looking for beginning of value at offset {offset}")
        }
        None => text,
    }
}

/// The character that an error is about, and which one it is, from 1 on.
fn place(body: &[u8], error: &Error) -> Option<(char, usize)> {
    let before: usize =
        body.split_inclusive(|byte| *byte == b'\n').take(error.line().checked_sub(1)?).map(<[u8]>::len).sum();
    let offset = before + error.column();
    Some((char::from(*body.get(offset.checked_sub(1)?)?), offset))
}

/// It is JSON, but no object.
pub(crate) fn not_an_object(value: &Value) -> ApiError {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    ApiError::invalid_json(&format!("json: cannot unmarshal {kind} into Go value"))
}

/// It is an object, but not one of the right shape.
pub(crate) fn shape(error: &Error) -> ApiError {
    ApiError::invalid_json(&shape_text(error))
}

pub(crate) fn shape_text(error: &Error) -> String {
    let whole = error.to_string();
    let text = whole.split(" at line ").next().unwrap_or_default();
    let quoted = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.split('`').next());
    if let Some(field) = quoted("unknown field `") {
        return format!("json: unknown field \"{field}\"");
    }
    if let Some(word) = quoted("unknown variant `") {
        return match text.ends_with("`none` or `s2`") {
            true => "unknown compression algorithm".to_owned(),
            false => format!("can not unmarshal {:?}", format!("\"{word}\"")),
        };
    }
    let wrong = text.strip_prefix("invalid type: ").or_else(|| text.strip_prefix("invalid value: "));
    let Some((found, expected)) = wrong.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return text.to_owned();
    };
    let found = match found.split([' ', '`']).next().unwrap_or_default() {
        "string" => "string",
        "integer" | "floating" => "number",
        "boolean" => "bool",
        "sequence" => "array",
        "map" => "object",
        _ => return text.to_owned(),
    };
    let expected = match expected {
        "i64" => "int64",
        "u64" => "uint64",
        "usize" => "int",
        "a string" => "string",
        "a boolean" => "bool",
        "a sequence" => "[]string",
        "a map" => "map[string]string",
        _ => return format!("json: cannot unmarshal {found} into Go value"),
    };
    format!("json: cannot unmarshal {found} into Go value of type {expected}")
}

#[cfg(test)]
mod tests {
    use super::super::config::StreamConfig;

    #[test]
    fn what_is_wrong_with_json_is_said_in_the_originals_words() {
        for (body, expected) in [
            ("{", "unexpected EOF"),
            ("x", "invalid character 'x' looking for beginning of value at offset 1"),
            (" x", "invalid character 'x' looking for beginning of value at offset 2"),
            (r#"{"name":"T"} x"#, "invalid character 'x' looking for beginning of value at offset 14"),
            ("[]", "json: cannot unmarshal array into Go value"),
            ("5", "json: cannot unmarshal number into Go value"),
            (r#"{"name":5}"#, "json: cannot unmarshal number into Go value of type string"),
            (r#"{"max_msgs":"x"}"#, "json: cannot unmarshal string into Go value of type int64"),
            (r#"{"first_seq":-1}"#, "json: cannot unmarshal number into Go value of type uint64"),
            (r#"{"subjects":"a"}"#, "json: cannot unmarshal string into Go value of type []string"),
            (r#"{"retention":"other"}"#, r#"can not unmarshal "\"other\"""#),
            (r#"{"compression":"zip"}"#, "unknown compression algorithm"),
            (r#"{"subjectz":[]}"#, r#"json: unknown field "subjectz""#),
        ] {
            let error = StreamConfig::parse(body.as_bytes()).unwrap_err();
            assert_eq!(
                (error.err_code, error.description),
                (10_025, format!("invalid JSON: {expected}")),
                "{body}"
            );
        }
        assert_eq!(StreamConfig::parse(b"null").unwrap(), StreamConfig::default());
    }
}
