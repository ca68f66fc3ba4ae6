/*
 * An eventfd and the poller that feeds eventfds to a Node event loop.
 *
 * new EventFd(): fd, signal(), take(), close(). Thread: any one; `signalEventFd(fd)` is for threads
 * that borrowed the number.
 */
#ifndef ESTALO_EVENT_FD_H
#define ESTALO_EVENT_FD_H

#include <napi.h>

#include "file_descriptor.h"

namespace estalo {

class EventFd : public Napi::ObjectWrap<EventFd> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit EventFd(const Napi::CallbackInfo& info);

private:
  Napi::Value Fd(const Napi::CallbackInfo& info);
  void Signal(const Napi::CallbackInfo& info);
  Napi::Value Take(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor fd_;
};

/* signalEventFd(fd): adds 1. */
void SignalEventFd(const Napi::CallbackInfo& info);

} // namespace estalo

#endif
