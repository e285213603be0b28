/* A decrypter library for the tests: the pass phrase is the text of the file read backwards. */
#include <stddef.h>

int DecryptPassword(const char* cipher_text, size_t cipher_length, char* plain_text, size_t plain_length);

int DecryptPassword(const char* cipher_text, size_t cipher_length, char* plain_text, size_t plain_length) {
  if (plain_length < cipher_length) return 7;
  if (cipher_length == 4 && cipher_text[0] == 'f') return 3;
  for (size_t i = 0; i < cipher_length; ++i) plain_text[i] = cipher_text[cipher_length - 1 - i];
  return 0;
}
