/* A failed system call as a JavaScript error: code (errno name), errno, syscall, as Node's own
 * carry them. */
#ifndef ESTALO_NATIVE_ERROR_H
#define ESTALO_NATIVE_ERROR_H

#include <napi.h>
#include <string>
#include <uv.h>

namespace estalo {

/* Throws into JavaScript; `error` is a positive errno. The caller returns at once afterwards. */
inline void ThrowErrno(Napi::Env env, const char* operation, int error) {
  const char* name = uv_err_name(-error);
  Napi::Error thrown = Napi::Error::New(env, std::string(operation) + ": " + name);
  thrown.Set("code", Napi::String::New(env, name));
  thrown.Set("errno", Napi::Number::New(env, error));
  thrown.Set("syscall", Napi::String::New(env, operation));
  thrown.ThrowAsJavaScriptException();
}

/* For `int result = some_ioctl(…)`: throws and says false when result is -errno. */
inline bool Succeeded(Napi::Env env, const char* operation, int result) {
  if (result >= 0) return true;
  ThrowErrno(env, operation, -result);
  return false;
}

/* Our own mistake in calling the addon: the typed façade should have made it impossible. */
inline void ThrowBug(Napi::Env env, const char* what) {
  Napi::TypeError::New(env, what).ThrowAsJavaScriptException();
}

} // namespace estalo

#endif
