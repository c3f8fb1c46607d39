//! Texts into values, with errors that say what would have been right.

/// `true` or `false`.
pub fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("is neither true nor false".to_owned()),
    }
}

/// A whole number of `unit`, `min..=max`.
pub fn number(text: &str, min: u64, max: u64, unit: &str) -> Result<u64, String> {
    let range = || format!("must be a whole number of {unit} from {min} to {max}");
    let value: u64 = text.trim().parse().map_err(|_| range())?;
    if (min..=max).contains(&value) { Ok(value) } else { Err(range()) }
}

/// A number of bytes, `min..=max`, with an optional `KiB`, `MiB` or `GiB`.
pub fn bytes(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let range = || format!("must be a number of bytes from {min} to {max}, such as 64MiB");
    let text = text.trim();
    let (digits, shift) = [("KiB", 10), ("MiB", 20), ("GiB", 30)]
        .iter()
        .find_map(|(suffix, shift)| text.strip_suffix(suffix).map(|digits| (digits.trim_end(), *shift)))
        .unwrap_or((text, 0));
    let count: u64 = digits.parse().map_err(|_| range())?;
    let value = count.checked_mul(1 << shift).ok_or_else(range)?;
    if (min..=max).contains(&value) { Ok(value) } else { Err(range()) }
}

/// One of `words`.
pub fn choice(text: &str, words: &[&'static str]) -> Result<&'static str, String> {
    words
        .iter()
        .find(|word| **word == text)
        .copied()
        .ok_or_else(|| format!("must be one of {}", words.join(", ")))
}

/// Words separated by commas; blanks around them do not count.
pub fn words(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `HOST:PORT`; an IPv6 address stands in brackets.
pub fn host_port(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("{text:?} is not HOST:PORT, such as 127.0.0.1:9092 or [::1]:9092");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bracketed.unwrap_or(host);
    if host.is_empty() || (bracketed.is_none() && host.contains(':')) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}
