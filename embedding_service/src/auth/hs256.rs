//! HMAC with SHA-256 (RFC 7518 §3.2) for `jsonwebtoken`, and no other algorithm.
//!
//! Its own provider of pure Rust brings RSA and two elliptic curves along, for algorithms that we refuse; the other needs a
//! C toolchain.

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use sha2::Sha256;
use signature::{Error, Signer, Verifier};

/// Makes and verifies signatures with one secret.
struct Hs256(Hmac<Sha256>);

static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: signer, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

/// To be called before the first token. Further calls do nothing.
pub(super) fn install() {
    // An error says that it is there already; nobody else here installs one.
    let _ = PROVIDER.install_default();
}

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    if (*algorithm, key.family()) != (Algorithm::HS256, AlgorithmFamily::Hmac) {
        return Err(new_error(ErrorKind::UnsupportedAlgorithm));
    }
    Ok(Box::new(Hs256::new(key.as_bytes())?))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if (*algorithm, key.family()) != (Algorithm::HS256, AlgorithmFamily::Hmac) {
        return Err(new_error(ErrorKind::UnsupportedAlgorithm));
    }
    Ok(Box::new(Hs256::new(key.try_get_as_bytes()?)?))
}

impl Hs256 {
    fn new(secret: &[u8]) -> Result<Self> {
        Hmac::new_from_slice(secret).map(Self).map_err(|_| new_error(ErrorKind::InvalidKeyFormat))
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        Ok(self.0.clone().chain_update(message).finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    /// In a time that does not tell where they differ.
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.0.clone().chain_update(message).verify_slice(signature).map_err(|_| Error::new())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_the_standard() {
        // RFC 4231, test case 2.
        let hmac = Hs256::new(b"Jefe").unwrap();
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let signature = hmac.try_sign(b"what do ya want for nothing?").unwrap();
        assert_eq!(super::super::api_key::hex(&signature), expected);
        assert!(hmac.verify(b"what do ya want for nothing?", &signature).is_ok());
        assert!(hmac.verify(b"what do ya want for nothing!", &signature).is_err());
        assert!(hmac.verify(b"what do ya want for nothing?", &signature[..16].to_vec()).is_err());
    }
}
