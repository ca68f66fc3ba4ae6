/*
 * Many eventfds on one libuv handle: an epoll descriptor that holds them all, polled by the event
 * loop.
 *
 * eventfds are watched edge-triggered and never read: each write makes one edge, so a doorbell
 * costs its writer's signal and one epoll_wait for the whole batch. A counter would overflow after
 * 2^64 rings.
 */
#ifndef ESTALO_POLLER_H
#define ESTALO_POLLER_H

#include <napi.h>
#include <uv.h>

#include "file_descriptor.h"

namespace estalo {

/*
 * new Poller(ready: Uint32Array, callback: (count) => void): add(fd, token), remove(fd), close().
 * The callback finds `count` tokens in `ready`. Thread: the event loop that made it, which it keeps
 * alive.
 */
class Poller : public Napi::ObjectWrap<Poller> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit Poller(const Napi::CallbackInfo& info);
  ~Poller() override;

private:
  void Add(const Napi::CallbackInfo& info);
  void Remove(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  void Stop();
  void Deliver();

  FileDescriptor epoll_;
  uv_poll_t* handle_ = nullptr;
  Napi::Reference<Napi::Uint32Array> ready_;
  // SAFETY: into `ready_`, which keeps its memory.
  uint32_t* tokens_ = nullptr;
  Napi::FunctionReference callback_;
  napi_async_context async_context_ = nullptr;
};

} // namespace estalo

#endif
