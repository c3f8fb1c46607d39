//! ApiVersions: what this broker can do.

use crate::codec::{
    ErrorCode, TABLE,
    api::api_versions::{
        ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
    },
};

/// The metadata level of Kafka 4.2: what tools print, and what clients take as "recent".
const METADATA_LEVEL: i16 = 29;

/// Longest client software name or version that is read as one (KIP-511 sets none; names are short).
const SOFTWARE_LEN_MAX: usize = 255;

/// The answer in any version that is served.
pub(crate) fn api_versions(request: &ApiVersionsRequest<'_>, version: i16) -> ApiVersionsResponse<'static> {
    let named = |text: &str| is_software(text);
    if version >= 3 && !(named(request.client_software_name) && named(request.client_software_version)) {
        return ApiVersionsResponse { error_code: ErrorCode::INVALID_REQUEST, ..Default::default() };
    }
    let api_keys = TABLE
        .iter()
        .map(|api| ApiVersion { api_key: api.key.number(), min_version: api.shown_min, max_version: api.max })
        .collect();
    let mut response = ApiVersionsResponse { api_keys, ..Default::default() };
    if version >= 3 {
        response.supported_features = vec![SupportedFeatureKey {
            name: "metadata.version".into(),
            min_version: 7,
            max_version: METADATA_LEVEL,
        }];
        response.finalized_features_epoch = 1;
        response.finalized_features = vec![FinalizedFeatureKey {
            name: "metadata.version".into(),
            max_version_level: METADATA_LEVEL,
            min_version_level: METADATA_LEVEL,
        }];
    }
    response
}

/// The answer, in version 0, to a version that is not served (KIP-511): which versions are.
pub(crate) fn unsupported() -> ApiVersionsResponse<'static> {
    let own = crate::codec::ApiKey::ApiVersions.api();
    ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: vec![ApiVersion {
            api_key: own.key.number(),
            min_version: own.shown_min,
            max_version: own.max,
        }],
        ..Default::default()
    }
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software(text: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    text.len() <= SOFTWARE_LEN_MAX
        && ends(text.bytes().next())
        && ends(text.bytes().next_back())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_software_is_named_as_kip_511_says() {
        for good in ["a", "librdkafka", "apache-kafka-java", "4.2.0"] {
            assert!(is_software(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a_b", "ä"] {
            assert!(!is_software(bad), "{bad}");
        }
    }

    #[test]
    fn produce_is_shown_from_version_0() {
        let request = ApiVersionsRequest { client_software_name: "a", client_software_version: "1" };
        let response = api_versions(&request, 3);
        let produce = response.api_keys.iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
        assert!(response.finalized_features_epoch >= 0, "else some clients ignore the features");
    }
}
