//! Who a certificate is for: names read out of it. It was verified before, so what does not read has no name.

use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

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

/// The name of a client, if its certificate has one of that kind.
pub fn name(certificate: &CertificateDer<'_>, of: NameOf) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    if of == NameOf::Common {
        let names: Vec<&str> =
            certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).collect();
        return Some(names.join(",")).filter(|names| !names.is_empty());
    }
    let alternative = certificate.subject_alternative_name().ok()??;
    alternative.value.general_names.iter().find_map(|name| match (of, name) {
        (NameOf::Dns, GeneralName::DNSName(name))
        | (NameOf::Email, GeneralName::RFC822Name(name))
        | (NameOf::Uri, GeneralName::URI(name)) => Some((*name).to_owned()),
        _ => None,
    })
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
