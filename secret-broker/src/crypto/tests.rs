//! Vectors of RFC 7518 appendix B and NIST SP 800-38A F.2.5, and what tampering must not achieve.

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use cbc::{Decryptor, Encryptor};
use proptest::prelude::*;
use sha2::{Sha384, Sha512};

use super::composition::{open, seal};
use super::*;

fn bytes(hex_digits: &str) -> Vec<u8> {
    hex::decode(hex_digits.replace(char::is_whitespace, "")).unwrap()
}

const VOLUME: Context<'static> = Context {
    purpose: "volume",
    organisation: "UiSMSP",
    dataset: "d1",
    key_version: 1,
};

const PRINCIPLE: &str = "41206369706865722073797374656d206d757374206e6f742062652072657175697265642074
     6f206265207365637265742c20616e64206974206d7573742062652061626c6520746f206661
     6c6c20696e746f207468652068616e6473206f662074686520656e656d7920776974686f7574
     20696e636f6e76656e69656e6365";

/// Key 00 01 02 …, plaintext, IV and associated data are the same in all three parts of the appendix.
fn appendix_b<C, M>(key_length: usize, ciphertext: &str, tag: &str)
where
    C: BlockCipherEncrypt + BlockCipherDecrypt,
    M: Mac + KeyInit,
    Encryptor<C>: KeyIvInit + BlockModeEncrypt,
    Decryptor<C>: KeyIvInit + BlockModeDecrypt,
{
    let key: Vec<u8> = (0..=255).take(key_length).collect();
    let (mac_key, encryption_key) = key.split_at(key_length / 2);
    let plaintext = bytes(PRINCIPLE);
    let iv = bytes("1af38c2dc2b96ffdd86694092341bc04");
    let aad = bytes(
        "546865207365636f6e64207072696e6369706c65206f662041756775737465204b6572636b68
         6f666673",
    );
    let (sealed, whole) = seal::<C, M>(mac_key, encryption_key, &iv, &aad, &plaintext).unwrap();
    assert_eq!(hex::encode(&sealed), ciphertext);
    let short = &whole[..key_length / 2];
    assert_eq!(hex::encode(short), tag);
    let opened = open::<C, M>(mac_key, encryption_key, &iv, &aad, &sealed, short).unwrap();
    assert_eq!(opened, plaintext);
}

#[test]
fn the_composition_gives_the_answers_of_rfc_7518_appendix_b() {
    appendix_b::<aes::Aes128, Hmac<Sha256>>(
        32,
        "c80edfa32ddf39d5ef00c0b468834279a2e46a1b8049f792f76bfe54b903a9c9\
         a94ac9b47ad2655c5f10f9aef71427e2fc6f9b3f399a221489f16362c7032336\
         09d45ac69864e3321cf82935ac4096c86e133314c54019e8ca7980dfa4b9cf1b\
         384c486f3a54c51078158ee5d79de59fbd34d848b3d69550a67646344427ade5\
         4b8851ffb598f7f80074b9473c82e2db",
        "652c3fa36b0a7c5b3219fab3a30bc1c4",
    );
    appendix_b::<aes::Aes192, Hmac<Sha384>>(
        48,
        "ea65da6b59e61edb419be62d19712ae5d303eeb50052d0dfd6697f77224c8edb\
         000d279bdc14c1072654bd30944230c657bed4ca0c9f4a8466f22b226d174621\
         4bf8cfc2400add9f5126e479663fc90b3bed787a2f0ffcbf3904be2a641d5c21\
         05bfe591bae23b1d7449e532eef60a9ac8bb6c6b01d35d49787bcd57ef484927\
         f280adc91ac0c4e79c7b11efc60054e3",
        "8490ac0e58949bfe51875d733f93ac2075168039ccc733d7",
    );
    appendix_b::<aes::Aes256, Hmac<Sha512>>(
        64,
        "4affaaadb78c31c5da4b1b590d10ffbd3dd8d5d302423526912da037ecbcc7bd\
         822c301dd67c373bccb584ad3e9279c2e6d12a1374b77f077553df829410446b\
         36ebd97066296ae6427ea75c2e0846a11a09ccf5370dc80bfecbad28c73f09b3\
         a3b75e662a2594410ae496b2e2e6609e31e6e02cc837f053d21f37ff4f51950b\
         be2638d09dd7a4930930806d0703b1f6",
        "4dd3b4c088a7f45c216839645b2012bf2e6269a8c56a816dbc1b267761955bc5",
    );
}

#[test]
fn aes_256_cbc_gives_the_answer_of_nist_sp_800_38a() {
    let key = bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
    let iv = bytes("000102030405060708090a0b0c0d0e0f");
    let plaintext = bytes(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51
         30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
    );
    let (ciphertext, _) = seal::<aes::Aes256, Hmac<Sha256>>(&[0; 32], &key, &iv, b"", &plaintext).unwrap();
    // The vector has no padding; ours adds one block of it.
    assert_eq!(
        hex::encode(&ciphertext[..64]),
        "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d\
         39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"
    );
    assert_eq!(ciphertext.len(), 80);
}

#[test]
fn an_envelope_says_which_key_version_it_needs() {
    let key = Key::generate().unwrap();
    let context = Context {
        key_version: 7,
        ..VOLUME
    };
    let envelope = encrypt(&key, &context, b"x").unwrap();
    assert_eq!(key_version(&envelope), Ok(7));
    assert_eq!(key_version(&[2, 0, 0, 0, 7]), Err(CryptoError::Malformed));
    assert_eq!(key_version(&[]), Err(CryptoError::Malformed));
}

#[test]
fn an_envelope_opens_in_no_other_context() {
    let key = Key::generate().unwrap();
    let envelope = encrypt(&key, &VOLUME, b"secret").unwrap();
    for other in [
        Context {
            purpose: "data-key",
            ..VOLUME
        },
        Context {
            organisation: "UiOMSP",
            ..VOLUME
        },
        Context {
            dataset: "d2",
            ..VOLUME
        },
        Context {
            key_version: 2,
            ..VOLUME
        },
        // Moving a boundary between two parts is a different context too.
        Context {
            organisation: "UiSMSPd",
            dataset: "1",
            ..VOLUME
        },
    ] {
        assert_eq!(
            decrypt(&key, &other, &envelope).err(),
            Some(CryptoError::NotAuthentic),
            "{other:?}"
        );
    }
    assert!(decrypt(&Key::generate().unwrap(), &VOLUME, &envelope).is_err());
}

#[test]
fn two_encryptions_of_the_same_text_differ() {
    let key = Key::generate().unwrap();
    assert_ne!(
        encrypt(&key, &VOLUME, b"same").unwrap(),
        encrypt(&key, &VOLUME, b"same").unwrap()
    );
}

#[test]
fn a_change_of_any_single_bit_is_refused() {
    let key = Key::generate().unwrap();
    let envelope = encrypt(&key, &VOLUME, b"some volume details, two blocks long").unwrap();
    for position in 0..envelope.len() {
        for bit in 0..8 {
            let mut changed = envelope.clone();
            changed[position] ^= 1 << bit;
            assert!(
                decrypt(&key, &VOLUME, &changed).is_err(),
                "byte {position}, bit {bit}"
            );
        }
    }
    for length in 0..envelope.len() {
        assert!(
            decrypt(&key, &VOLUME, &envelope[..length]).is_err(),
            "cut to {length}"
        );
    }
}

proptest! {
    #[test]
    fn what_was_encrypted_is_what_is_decrypted(plaintext in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = Key::generate().unwrap();
        let envelope = encrypt(&key, &VOLUME, &plaintext).unwrap();
        let opened = decrypt(&key, &VOLUME, &envelope).unwrap();
        prop_assert_eq!(opened.expose(), &plaintext);
    }

    #[test]
    fn whatever_was_encrypted_opens_no_more_once_a_bit_is_flipped(
        plaintext in proptest::collection::vec(any::<u8>(), 0..2000),
        position in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let key = Key::generate().unwrap();
        let mut envelope = encrypt(&key, &VOLUME, &plaintext).unwrap();
        let position = position.index(envelope.len());
        envelope[position] ^= 1 << bit;
        prop_assert!(decrypt(&key, &VOLUME, &envelope).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_open_and_never_panic(envelope in proptest::collection::vec(any::<u8>(), 0..200)) {
        let key = Key::from_bytes(&[7; KEY_LENGTH]).unwrap();
        prop_assert!(decrypt(&key, &VOLUME, &envelope).is_err());
    }
}
