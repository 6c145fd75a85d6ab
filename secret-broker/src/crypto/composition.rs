//! The composition of RFC 7518 §5.2 over any AES key length and any hash, so that the RFC's own test vectors and Wycheproof's can be run
//! through the same code. Leasehold itself uses AES-256 with HMAC-SHA-256.
//!
//! The IV is the caller's; [`super::encrypt`] makes it random. The tag is as long as the caller's slice says when opening, and whole
//! when sealing.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use cbc::{Decryptor, Encryptor};
use hmac::{KeyInit, Mac};
use zeroize::Zeroize;

use super::CryptoError;

/// Bytes of an initialisation vector, one AES block.
pub const IV_LENGTH: usize = 16;

fn mac<M: Mac + KeyInit>(mac_key: &[u8], iv: &[u8], aad: &[u8], ciphertext: &[u8]) -> Result<M, CryptoError> {
    let mut mac = <M as KeyInit>::new_from_slice(mac_key).map_err(|_| CryptoError::Malformed)?;
    mac.update(aad);
    mac.update(iv);
    mac.update(ciphertext);
    mac.update(&(aad.len() as u64 * 8).to_be_bytes());
    Ok(mac)
}

/// Pads (PKCS #7), encrypts and authenticates. Yields the ciphertext and the untruncated tag.
///
/// # Errors
/// [`CryptoError::Malformed`] for a key or IV of the wrong length.
pub fn seal<C, M>(
    mac_key: &[u8],
    encryption_key: &[u8],
    iv: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), CryptoError>
where
    C: BlockCipherEncrypt,
    M: Mac + KeyInit,
    Encryptor<C>: KeyIvInit + BlockModeEncrypt,
{
    // In place, so that no copy of the plaintext is left behind.
    let mut buffer = vec![0; (plaintext.len() / IV_LENGTH + 1) * IV_LENGTH];
    buffer
        .get_mut(..plaintext.len())
        .ok_or(CryptoError::Malformed)?
        .copy_from_slice(plaintext);
    let length = Encryptor::<C>::new_from_slices(encryption_key, iv)
        .map_err(|_| CryptoError::Malformed)?
        .encrypt_padded::<Pkcs7>(&mut buffer, plaintext.len())
        .map_err(|_| CryptoError::Malformed)?
        .len();
    wipe_the_stack();
    buffer.truncate(length);
    let tag = mac::<M>(mac_key, iv, aad, &buffer)?.finalize().into_bytes();
    Ok((buffer, tag.to_vec()))
}

/// Overwrites what returned calls left below on the stack: the cipher works on eight blocks at a time there, and wipes none.
#[inline(never)]
fn wipe_the_stack() {
    let mut below = [0_u8; 16 * 1024];
    below.zeroize();
    std::hint::black_box(&below);
}

/// Checks the tag in constant time, then decrypts.
///
/// # Errors
/// [`CryptoError::NotAuthentic`] where the tag does not match; nothing was decrypted then.
pub fn open<C, M>(
    mac_key: &[u8],
    encryption_key: &[u8],
    iv: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
    tag: &[u8],
) -> Result<Vec<u8>, CryptoError>
where
    C: BlockCipherDecrypt,
    M: Mac + KeyInit,
    Decryptor<C>: KeyIvInit + BlockModeDecrypt,
{
    mac::<M>(mac_key, iv, aad, ciphertext)?
        .verify_truncated_left(tag)
        .map_err(|_| CryptoError::NotAuthentic)?;
    decrypt::<C>(encryption_key, iv, ciphertext)
}

/// Decrypts what is known to be authentic, and takes the padding off.
pub(super) fn decrypt<C>(encryption_key: &[u8], iv: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, CryptoError>
where
    C: BlockCipherDecrypt,
    Decryptor<C>: KeyIvInit + BlockModeDecrypt,
{
    let mut buffer = ciphertext.to_vec();
    let opened = Decryptor::<C>::new_from_slices(encryption_key, iv)
        .map_err(|_| CryptoError::Malformed)?
        .decrypt_padded::<Pkcs7>(&mut buffer)
        .map(<[u8]>::len);
    wipe_the_stack();
    match opened {
        Ok(length) => {
            buffer.get_mut(length..).unwrap_or_default().zeroize();
            buffer.truncate(length);
            Ok(buffer)
        }
        Err(_) => {
            buffer.zeroize();
            Err(CryptoError::NotAuthentic)
        }
    }
}
