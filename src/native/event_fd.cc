/* eventfds; see event_fd.h. */
#include "event_fd.h"

#include <cerrno>
#include <sys/eventfd.h>

#include "native_error.h"

namespace estalo {

namespace {

void Add(Napi::Env env, int fd) {
  // EAGAIN means the counter is full: whoever waits is awake already.
  if (eventfd_write(fd, 1) < 0 && errno != EAGAIN) ThrowErrno(env, "write eventfd", errno);
}

} // namespace

Napi::Function EventFd::Define(Napi::Env env) {
  return DefineClass(
      env, "EventFd",
      {InstanceAccessor<&EventFd::Fd>("fd"), InstanceMethod<&EventFd::Signal>("signal"),
       InstanceMethod<&EventFd::Take>("take"), InstanceMethod<&EventFd::Close>("close")});
}

EventFd::EventFd(const Napi::CallbackInfo& info) : Napi::ObjectWrap<EventFd>(info) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) {
    ThrowErrno(info.Env(), "eventfd", errno);
    return;
  }
  fd_.Reset(fd);
}

Napi::Value EventFd::Fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), fd_.get());
}

void EventFd::Signal(const Napi::CallbackInfo& info) {
  Add(info.Env(), fd_.get());
}

Napi::Value EventFd::Take(const Napi::CallbackInfo& info) {
  eventfd_t value = 0;
  // EAGAIN: nobody has signalled since the last time.
  if (eventfd_read(fd_.get(), &value) < 0 && errno != EAGAIN) {
    ThrowErrno(info.Env(), "read eventfd", errno);
    return {};
  }
  return Napi::Number::New(info.Env(), static_cast<double>(value));
}

void EventFd::Close(const Napi::CallbackInfo&) {
  fd_.Close();
}

void SignalEventFd(const Napi::CallbackInfo& info) {
  Add(info.Env(), info[0].As<Napi::Number>().Int32Value());
}

} // namespace estalo
