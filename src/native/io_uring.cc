/* io_uring for JavaScript; see io_uring.h. */
#include "io_uring.h"

#include "native_error.h"

namespace estalo {

namespace {
constexpr size_t kCommandWords = 7;
}

Napi::Function IoUring::Define(Napi::Env env) {
  return DefineClass(
      env, "IoUring",
      {InstanceMethod<&IoUring::Submit>("submit"), InstanceMethod<&IoUring::Reap>("reap"),
       InstanceMethod<&IoUring::Abandon>("abandon"), InstanceMethod<&IoUring::Close>("close")});
}

IoUring::IoUring(const Napi::CallbackInfo& info) : Napi::ObjectWrap<IoUring>(info) {
  memory_ = GuestMappingObject::Unwrap(info[0].As<Napi::Object>())->mapping();
  int result = estalo_uring_create(&ring_, info[1].As<Napi::Number>().Uint32Value(),
                                   info[2].As<Napi::Number>().Int32Value());
  commands_ = Napi::Persistent(info[3].As<Napi::Float64Array>());
  completions_ = Napi::Persistent(info[4].As<Napi::Int32Array>());
  words_ = commands_.Value().Data();
  word_count_ = commands_.Value().ElementLength();
  pairs_ = completions_.Value().Data();
  pair_count_ = static_cast<uint32_t>(completions_.Value().ElementLength() / 2);
  Succeeded(info.Env(), "io_uring_setup", result);
}

IoUring::~IoUring() {
  if (ring_ != nullptr) estalo_uring_destroy(ring_);
}

void IoUring::Abandon(const Napi::CallbackInfo&) {
  if (ring_ != nullptr) estalo_uring_abandon(ring_);
}

void IoUring::Close(const Napi::CallbackInfo&) {
  if (ring_ != nullptr) estalo_uring_destroy(ring_);
  ring_ = nullptr;
  memory_.reset();
}

size_t IoUring::Prepare(Napi::Env env, const double* words, size_t available) {
  // Compared as doubles and negated, so that NaN is refused too.
  double room = (static_cast<double>(available) - kCommandWords) / 2;
  if (available < kCommandWords || !(words[6] >= 0 && words[6] <= room)) {
    ThrowBug(env, "the command stream ends within a request");
    return 0;
  }
  size_t count = static_cast<size_t>(words[6]);
  size_t taken = kCommandWords + 2 * count;
  segments_.resize(count);
  for (size_t i = 0; i < count; i++) {
    auto gpa = static_cast<uint64_t>(words[kCommandWords + 2 * i]);
    auto bytes = static_cast<uint64_t>(words[kCommandWords + 2 * i + 1]);
    void* address = memory_->HostAddress(gpa, bytes);
    if (address == nullptr) {
      ThrowBug(env, "a segment lies outside guest memory");
      return 0;
    }
    segments_[i] = {address, static_cast<size_t>(bytes)};
  }
  struct estalo_uring_request request = {
      static_cast<uint32_t>(words[1]),
      static_cast<enum estalo_uring_operation>(static_cast<int>(words[0])),
      static_cast<int>(words[2]),
      static_cast<int>(words[5]),
      static_cast<uint64_t>(words[3]),
      static_cast<uint64_t>(words[4]),
      segments_.data(),
      static_cast<uint32_t>(count),
  };
  if (!Succeeded(env, "io_uring request", estalo_uring_prepare(ring_, &request))) return 0;
  return taken;
}

Napi::Value IoUring::Submit(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const double* words = words_;
  size_t left = info[0].As<Napi::Number>().Uint32Value();
  if (ring_ == nullptr || left > word_count_) {
    ThrowBug(env, "the ring is closed, or the command stream is shorter than that");
    return {};
  }
  while (left > 0) {
    size_t taken = Prepare(env, words, left);
    if (taken == 0) return {};
    words += taken;
    left -= taken;
  }
  int waiting = estalo_uring_submit(ring_);
  if (!Succeeded(env, "io_uring_enter", waiting)) return {};
  return Napi::Number::New(env, waiting);
}

Napi::Value IoUring::Reap(const Napi::CallbackInfo& info) {
  if (ring_ == nullptr) return Napi::Number::New(info.Env(), 0);
  int filled = estalo_uring_reap(ring_, pairs_, pair_count_);
  return Napi::Number::New(info.Env(), filled);
}

} // namespace estalo
