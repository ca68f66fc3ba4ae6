/* eventfds on the event loop; see poller.h. */
#include "poller.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <sys/epoll.h>

#include "native_error.h"

namespace estalo {

namespace {
constexpr size_t kBatch = 64;
}

Napi::Function Poller::Define(Napi::Env env) {
  return DefineClass(env, "Poller",
                     {InstanceMethod<&Poller::Add>("add"),
                      InstanceMethod<&Poller::Remove>("remove"),
                      InstanceMethod<&Poller::Close>("close")});
}

Poller::Poller(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Poller>(info) {
  Napi::Env env = info.Env();
  ready_ = Napi::Persistent(info[0].As<Napi::Uint32Array>());
  if (ready_.Value().ElementLength() < kBatch) {
    ThrowBug(env, "ready holds 64 tokens");
    return;
  }
  tokens_ = ready_.Value().Data();
  callback_ = Napi::Persistent(info[1].As<Napi::Function>());
  int fd = epoll_create1(EPOLL_CLOEXEC);
  if (fd < 0) {
    ThrowErrno(env, "epoll_create1", errno);
    return;
  }
  epoll_.Reset(fd);
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  napi_async_init(env, nullptr, Napi::String::New(env, "estalo.Poller"), &async_context_);
  handle_ = new uv_poll_t;
  int error = uv_poll_init(loop, handle_, fd);
  if (error == 0) {
    handle_->data = this;
    error = uv_poll_start(handle_, UV_READABLE, [](uv_poll_t* handle, int, int) {
      if (handle->data != nullptr) static_cast<Poller*>(handle->data)->Deliver();
    });
  }
  if (error != 0) ThrowErrno(env, "uv_poll", -error);
}

Poller::~Poller() {
  Stop();
}

void Poller::Stop() {
  if (handle_ == nullptr) return;
  handle_->data = nullptr;
  uv_poll_stop(handle_);
  uv_close(reinterpret_cast<uv_handle_t*>(handle_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
  handle_ = nullptr;
  epoll_.Close();
}

void Poller::Add(const Napi::CallbackInfo& info) {
  struct epoll_event event = {};
  event.events = EPOLLIN | EPOLLET;
  event.data.u32 = info[1].As<Napi::Number>().Uint32Value();
  int fd = info[0].As<Napi::Number>().Int32Value();
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) {
    ThrowErrno(info.Env(), "epoll_ctl", errno);
  }
}

void Poller::Remove(const Napi::CallbackInfo& info) {
  int fd = info[0].As<Napi::Number>().Int32Value();
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr) < 0) {
    ThrowErrno(info.Env(), "epoll_ctl", errno);
  }
}

void Poller::Close(const Napi::CallbackInfo& info) {
  Stop();
  if (async_context_ != nullptr) napi_async_destroy(info.Env(), async_context_);
  async_context_ = nullptr;
}

/*
 * For each wake-up, mostly from idle and with cold caches: each function less on the way is time
 * that the guest does not wait. Hence Node-API itself here.
 */
void Poller::Deliver() {
  napi_env env = Env();
  Napi::HandleScope scope(env);
  std::array<struct epoll_event, kBatch> events;
  int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  if (count <= 0) return;
  for (int i = 0; i < count; i++)
    tokens_[i] = events[static_cast<size_t>(i)].data.u32;
  napi_value callback = callback_.Value();
  napi_value argument = nullptr;
  napi_create_int32(env, count, &argument);
  napi_status status =
      napi_make_callback(env, async_context_, callback, callback, 1, &argument, nullptr);
  if (status != napi_pending_exception) return;
  // What the callback threw, or what Node runs after it (process.nextTick), is kept, and the next
  // call into the addon, anybody's, would throw it. It is an uncaughtException, as for any other
  // event.
  napi_value error = nullptr;
  if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
}

} // namespace estalo
