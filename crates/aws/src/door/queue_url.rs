//! Queue URLs: one form that is written, every form that is read.

use crate::{AccountId, AwsError};

/// What a queue URL says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueUrl<'a> {
    /// The account, where it says one.
    pub account: Option<AccountId>,
    /// The region, where the path says one.
    pub region: Option<&'a str>,
    /// The queue.
    pub name: &'a str,
}

impl<'a> QueueUrl<'a> {
    /// `BASE/ACCOUNT/NAME`.
    pub(crate) fn write(base: &str, account: &AccountId, name: &str) -> String {
        format!("{base}/{account}/{name}")
    }

    /// Reads any of
    /// `http://HOST/ACCOUNT/NAME`, `http://HOST/queue/REGION/ACCOUNT/NAME`, `http://HOST/queue/NAME`, a path of these
    /// forms without a host, and a name alone. The host says nothing: a queue is reached under any name of the server,
    /// and under AWS's own.
    pub(crate) fn parse(url: &'a str) -> Result<QueueUrl<'a>, AwsError> {
        let path = match url.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_host, path)| path),
            None => url,
        };
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let mut segments = path.rsplit('/').filter(|segment| !segment.is_empty());
        // AWS has no queue at an address without a path, and does not call the address wrong.
        let name = segments.next().ok_or_else(|| match url.contains("://") {
            true => AwsError::no_such_queue(),
            false => AwsError::invalid_address(format!("The address {url} is not valid for this endpoint.")),
        })?;
        let account = segments.next().and_then(AccountId::parse);
        let region = segments.next().filter(|_| account.is_some() && segments.next() == Some("queue"));
        Ok(QueueUrl { account, region, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, account: Option<&str>, region: Option<&str>, name: &str) {
        let expected = QueueUrl { account: account.and_then(AccountId::parse), region, name };
        assert_eq!(QueueUrl::parse(url).unwrap(), expected, "{url}");
    }

    #[test]
    fn every_form_is_read_whatever_its_host() {
        let own = Some("000000000000");
        for url in [
            "http://localhost:4566/000000000000/jobs",
            "https://sqs.eu-west-1.amazonaws.com/000000000000/jobs",
            "http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/jobs",
            "http://eu-west-1.queue.localhost:4566/000000000000/jobs/",
            "http://[::1]:4566/000000000000/jobs?Action=SendMessage",
            "/000000000000/jobs",
            "000000000000/jobs",
        ] {
            check(url, own, None, "jobs");
        }
        check("http://h/queue/eu-west-1/000000000000/jobs", own, Some("eu-west-1"), "jobs");
        check("http://localhost:9324/queue/jobs", None, None, "jobs");
        check("http://localhost:9324/jobs.fifo", None, None, "jobs.fifo");
        check("jobs", None, None, "jobs");
    }

    #[test]
    fn what_names_no_queue_is_refused() {
        for url in ["http://localhost:4566", "http://localhost:4566/", "http://localhost:4566/?a"] {
            assert_eq!(QueueUrl::parse(url), Err(AwsError::no_such_queue()), "{url}");
        }
        for url in ["", "/"] {
            assert_eq!(QueueUrl::parse(url).unwrap_err().code, "InvalidAddress", "{url}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let account = AccountId::parse("123456789012").unwrap();
        let url = QueueUrl::write("http://localhost:4566", &account, "jobs");
        assert_eq!(url, "http://localhost:4566/123456789012/jobs");
        check(&url, Some("123456789012"), None, "jobs");
    }
}
