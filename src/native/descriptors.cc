/* Descriptors; see descriptors.h. */
#include "descriptors.h"

#include <cerrno>
#include <cstdint>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "native_error.h"

namespace estalo {

Napi::Value BlockDeviceBytes(const Napi::CallbackInfo& info) {
  uint64_t bytes = 0;
  int result = ioctl(info[0].As<Napi::Number>().Int32Value(), BLKGETSIZE64, &bytes);
  if (!Succeeded(info.Env(), "BLKGETSIZE64", result < 0 ? -errno : 0)) return {};
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

Napi::Value SocketPair(const Napi::CallbackInfo& info) {
  int ends[2];
  int result = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends);
  if (!Succeeded(info.Env(), "socketpair", result < 0 ? -errno : 0)) return {};
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  for (uint32_t i = 0; i < 2; i++)
    pair.Set(i, Napi::Number::New(info.Env(), ends[i]));
  return pair;
}

} // namespace estalo
