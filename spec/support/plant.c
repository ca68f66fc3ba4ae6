/*
 * What an attacker inside a process has: any system call. call(number, arguments…) gives its
 * result, or -errno; numbers and Uint8Arrays (their address) are taken. address(array) is where an
 * array is, as a bigint. For spec/support/escapes.ts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <node_api.h>
#include <unistd.h>

#define ARGUMENTS_MAX 7

static napi_value call(napi_env env, napi_callback_info info) {
  size_t count = ARGUMENTS_MAX;
  napi_value values[ARGUMENTS_MAX];
  long words[ARGUMENTS_MAX] = {0};
  napi_value result;
  napi_get_cb_info(env, info, &count, values, NULL, NULL);
  for (size_t i = 0; i < count && i < ARGUMENTS_MAX; i++) {
    bool is_array = false;
    napi_is_typedarray(env, values[i], &is_array);
    if (is_array) {
      void* data = NULL;
      napi_get_typedarray_info(env, values[i], NULL, NULL, &data, NULL, NULL);
      words[i] = (long)data;
    } else {
      int64_t number = 0;
      napi_get_value_int64(env, values[i], &number);
      words[i] = number;
    }
  }
  long value = syscall(words[0], words[1], words[2], words[3], words[4], words[5], words[6]);
  napi_create_int64(env, value < 0 ? -errno : value, &result);
  return result;
}

static napi_value address(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value value;
  napi_value result;
  void* data = NULL;
  napi_get_cb_info(env, info, &count, &value, NULL, NULL);
  napi_get_typedarray_info(env, value, NULL, NULL, &data, NULL, NULL);
  napi_create_bigint_uint64(env, (uint64_t)data, &result);
  return result;
}

NAPI_MODULE_INIT() {
  napi_value function;
  napi_create_function(env, "address", NAPI_AUTO_LENGTH, address, NULL, &function);
  napi_set_named_property(env, exports, "address", function);
  napi_create_function(env, "call", NAPI_AUTO_LENGTH, call, NULL, &function);
  napi_set_named_property(env, exports, "call", function);
  return exports;
}
