/* The one function of libuv that src/native/native_error.h uses. */
#ifndef ESTALO_FUZZ_UV_H
#define ESTALO_FUZZ_UV_H

inline const char* uv_err_name(int) {
  return "E";
}

#endif
