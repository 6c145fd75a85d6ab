//! Wycheproof's vectors, through the code that encrypts volumes and keys: what is valid opens to what it should, what is invalid never
//! does. The counts are asserted, so that vectors which are not read cannot pass.

use aes::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyIvInit};
use cbc::Decryptor;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};
use wycheproof::{TestResult, aead, cipher, mac};

use super::composition::{self, open};

/// How many are valid and how many are not.
type Counts = (usize, usize);

fn count(counts: &mut Counts, result: TestResult, opens: bool, which: &str) {
    match result {
        TestResult::Valid => {
            assert!(opens, "{which} is valid and was refused");
            counts.0 += 1;
        }
        TestResult::Invalid => {
            assert!(!opens, "{which} is invalid and was taken");
            counts.1 += 1;
        }
        TestResult::Acceptable => panic!("{which} is neither"),
    }
}

fn aead_vectors<C, M>(name: aead::TestName) -> Counts
where
    C: BlockCipherDecrypt,
    M: Mac + KeyInit,
    Decryptor<C>: KeyIvInit + BlockModeDecrypt,
{
    let mut counts = (0, 0);
    for group in aead::TestSet::load(name).unwrap().test_groups {
        for test in &group.tests {
            let (mac_key, encryption_key) = test.key.split_at(test.key.len() / 2);
            let opened = open::<C, M>(
                mac_key,
                encryption_key,
                &test.nonce,
                &test.aad,
                &test.ct,
                &test.tag,
            );
            let opens = opened.is_ok_and(|plaintext| plaintext == test.pt.as_slice());
            count(
                &mut counts,
                test.result,
                opens,
                &format!("{name:?} {}", test.tc_id),
            );
        }
    }
    counts
}

#[test]
fn every_valid_vector_of_the_composition_opens_and_no_invalid_one() {
    use aead::TestName;
    let counts = [
        aead_vectors::<aes::Aes128, Hmac<Sha256>>(TestName::Aes128CbcHmacSha256),
        aead_vectors::<aes::Aes192, Hmac<Sha384>>(TestName::Aes192CbcHmacSha384),
        aead_vectors::<aes::Aes256, Hmac<Sha512>>(TestName::Aes256CbcHmacSha512),
    ];
    assert_eq!(counts, [(67, 27); 3]);
}

#[test]
fn every_valid_vector_of_aes_cbc_decrypts_and_no_invalid_one() {
    let mut counts = (0, 0);
    for group in cipher::TestSet::load(cipher::TestName::AesCbcPkcs5)
        .unwrap()
        .test_groups
    {
        for test in &group.tests {
            let decrypt = match test.key.len() {
                16 => composition::decrypt::<aes::Aes128>,
                24 => composition::decrypt::<aes::Aes192>,
                32 => composition::decrypt::<aes::Aes256>,
                other => panic!("a key of {other} bytes"),
            };
            let opened = decrypt(&test.key, &test.nonce, &test.ct);
            let opens = opened.is_ok_and(|plaintext| plaintext == test.pt.as_slice());
            count(
                &mut counts,
                test.result,
                opens,
                &format!("AES-CBC {}", test.tc_id),
            );
        }
    }
    assert_eq!(counts, (72, 144));
}

#[test]
fn every_valid_vector_of_hmac_sha_256_verifies_and_no_invalid_one() {
    let mut counts = (0, 0);
    for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
        for test in &group.tests {
            let mut hmac = <Hmac<Sha256> as KeyInit>::new_from_slice(&test.key).unwrap();
            hmac.update(&test.msg);
            let verifies = hmac.verify_truncated_left(&test.tag).is_ok();
            count(
                &mut counts,
                test.result,
                verifies,
                &format!("HMAC {}", test.tc_id),
            );
        }
    }
    assert_eq!(counts, (66, 108));
}
