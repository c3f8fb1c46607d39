//! Who a certificate is for: names read out of it. It was verified before, so what does not read has no name.

use rustls::pki_types::CertificateDer;

/// Which of a certificate's names counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameOf {
    /// The common name of its subject; several are joined by commas.
    Common,
    /// The first alternative name that is a host's.
    Dns,
    /// The first that is a mail address.
    Email,
    /// The first that is a URI.
    Uri,
}

/// DER tags.
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_ID: u8 = 0x06;
const OCTETS: u8 = 0x04;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// Kinds of text that are, or are written as, UTF-8 or ASCII: UTF8String, PrintableString, IA5String.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// id-at-commonName 2.5.4.3, id-ce-subjectAltName 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// What follows in DER.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next value and its tag.
    fn next(&mut self) -> Option<(u8, Der<'a>)> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let mut len = usize::from(first);
        if first >= 0x80 {
            let bytes;
            (bytes, rest) =
                rest.split_at_checked(usize::from(first & 0x7f)).filter(|(len, _)| len.len() <= 4)?;
            len = bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        }
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, Der(value)))
    }

    /// The next value, which has to have that tag.
    fn expect(&mut self, expected: u8) -> Option<Der<'a>> {
        self.next().filter(|(tag, _)| *tag == expected).map(|(_, value)| value)
    }

    /// The values in it.
    fn all(mut self) -> impl Iterator<Item = (u8, Der<'a>)> {
        std::iter::from_fn(move || self.next())
    }
}

/// The name of a client, if its certificate has one of that kind.
pub fn name(certificate: &CertificateDer<'_>, of: NameOf) -> Option<String> {
    let mut to_be_signed = Der(certificate).expect(SEQUENCE)?.expect(SEQUENCE)?;
    let mut after_version = to_be_signed;
    if after_version.next()?.0 == VERSION {
        to_be_signed = after_version;
    }
    // Serial number, algorithm, issuer, validity; then the subject.
    for _ in 0..4 {
        to_be_signed.next()?;
    }
    let subject = to_be_signed.expect(SEQUENCE)?;
    let found = match of {
        NameOf::Common => common_names(subject).join(","),
        NameOf::Dns => alternative(to_be_signed, 0x82)?,
        NameOf::Email => alternative(to_be_signed, 0x81)?,
        NameOf::Uri => alternative(to_be_signed, 0x86)?,
    };
    (!found.is_empty()).then_some(found)
}

fn common_names(subject: Der<'_>) -> Vec<&str> {
    let parts = subject.all().filter(|(tag, _)| *tag == SET).flat_map(|(_, set)| set.all());
    let names = parts.filter_map(|(_, mut part)| {
        let is_name = part.expect(OBJECT_ID)?.0 == COMMON_NAME;
        let (tag, text) = part.next()?;
        (is_name && TEXTS.contains(&tag)).then(|| std::str::from_utf8(text.0).ok())?
    });
    names.collect()
}

/// The first alternative name with that tag.
fn alternative(rest: Der<'_>, tag: u8) -> Option<String> {
    let (_, mut extensions) = rest.all().find(|(tag, _)| *tag == EXTENSIONS)?;
    let own = extensions.expect(SEQUENCE)?.all().find_map(|(_, mut extension)| {
        let is_own = extension.expect(OBJECT_ID)?.0 == ALTERNATIVE_NAMES;
        // Whether it is critical may stand between.
        is_own.then(|| extension.all().find(|(tag, _)| *tag == OCTETS))?
    });
    let (_, name) = own?.1.expect(SEQUENCE)?.all().find(|(found, _)| *found == tag)?;
    std::str::from_utf8(name.0).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(common_names: &[&str], alternative: &[rcgen::SanType]) -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "an organisation");
        for name in common_names {
            params.distinguished_name.push(rcgen::DnType::CommonName, *name);
        }
        params.subject_alt_names = alternative.to_vec();
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn each_kind_of_name_is_found_where_it_is() {
        let alternative = [
            rcgen::SanType::Rfc822Name("a@example.org".try_into().unwrap()),
            rcgen::SanType::DnsName("host.example.org".try_into().unwrap()),
            rcgen::SanType::URI("spiffe://example.org/a".try_into().unwrap()),
        ];
        let full = certificate(&["worker"], &alternative);
        for (of, expected) in [
            (NameOf::Common, "worker"),
            (NameOf::Dns, "host.example.org"),
            (NameOf::Email, "a@example.org"),
            (NameOf::Uri, "spiffe://example.org/a"),
        ] {
            assert_eq!(name(&full, of).as_deref(), Some(expected), "{of:?}");
        }
        let bare = certificate(&[], &[]);
        for of in [NameOf::Common, NameOf::Dns, NameOf::Email, NameOf::Uri] {
            assert_eq!(name(&bare, of), None, "{of:?}");
        }
    }

    #[test]
    fn a_certificate_that_does_not_read_has_no_name() {
        let whole = certificate(&["worker"], &[rcgen::SanType::DnsName("host".try_into().unwrap())]);
        for len in 0..whole.len() {
            for of in [NameOf::Common, NameOf::Dns] {
                drop(name(&CertificateDer::from(whole[..len].to_vec()), of));
            }
        }
        for at in 0..whole.len().min(400) {
            let mut bent = whole.to_vec();
            bent[at] ^= 0x80;
            drop(name(&CertificateDer::from(bent), NameOf::Dns));
        }
        assert_eq!(
            name(&CertificateDer::from(vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), NameOf::Common),
            None
        );
    }
}
