/* Descriptors; see descriptors.h. */
#include "descriptors.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "native_error.h"

namespace estalo {

namespace {

/* A message of one byte with room for one descriptor. */
struct Message {
  char byte = 0;
  struct iovec part = {&byte, 1};
  alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  struct msghdr header = {};

  Message() {
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
  }
};

} // namespace

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

void SendDescriptor(const Napi::CallbackInfo& info) {
  int socket = info[0].As<Napi::Number>().Int32Value();
  int fd = info[1].As<Napi::Number>().Int32Value();
  Message message;
  struct cmsghdr* rights = CMSG_FIRSTHDR(&message.header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  ssize_t sent = sendmsg(socket, &message.header, MSG_DONTWAIT | MSG_NOSIGNAL);
  Succeeded(info.Env(), "sendmsg", sent < 0 ? -errno : 0);
}

Napi::Value ReceiveDescriptor(const Napi::CallbackInfo& info) {
  int socket = info[0].As<Napi::Number>().Int32Value();
  Message message;
  ssize_t got = recvmsg(socket, &message.header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (!Succeeded(info.Env(), "recvmsg", got < 0 ? -errno : 0)) return {};
  struct cmsghdr* rights = CMSG_FIRSTHDR(&message.header);
  if (got == 0 || rights == nullptr || rights->cmsg_type != SCM_RIGHTS ||
      rights->cmsg_len != CMSG_LEN(sizeof(int))) {
    ThrowErrno(info.Env(), "recvmsg", got == 0 ? EPIPE : EBADMSG);
    return {};
  }
  int fd;
  memcpy(&fd, CMSG_DATA(rights), sizeof fd);
  return Napi::Number::New(info.Env(), fd);
}

} // namespace estalo
