//! The contract, generated from `proto/` by build.rs.

/// `vectron.embedding.v1`: messages, clients and servers.
pub mod v1 {
    #![allow(missing_docs, reason = "generated: clients and servers come without some")]
    #![allow(clippy::large_enum_variant, reason = "generated: a result of a comparison, once for each model")]
    tonic::include_proto!("vectron.embedding.v1");

    use std::fmt;

    impl fmt::Debug for PasswordCredential {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            // The name neither: who mixes the fields up has written the password there.
            formatter.write_str("PasswordCredential(***)")
        }
    }

    impl fmt::Debug for IssueTokenRequest {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.debug_struct("IssueTokenRequest").field("credential", &self.credential).finish_non_exhaustive()
        }
    }

    impl fmt::Debug for IssueTokenResponse {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self { token_type, expires_in_s, .. } = self;
            let mut told = formatter.debug_struct("IssueTokenResponse");
            told.field("token_type", token_type).field("expires_in_s", expires_in_s).finish_non_exhaustive()
        }
    }

    impl fmt::Debug for issue_token_request::Credential {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(match self {
                Self::ApiKey(_) => "ApiKey(***)",
                Self::Password(_) => "Password(***)",
            })
        }
    }
}

/// All files of the contract, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor_set.bin"));
