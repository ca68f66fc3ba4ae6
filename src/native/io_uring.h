/*
 * io_uring for JavaScript: requests come as numbers in one Float64Array, results leave in one
 * Int32Array.
 *
 * Command stream, for each request:
 *   [ operation, tag, fd, offsetBytes, lengthBytes, fallocateMode, segmentCount, (gpa, bytes) ×
 * segmentCount ] Every guest-physical range is turned into a host pointer here, and checked while
 * it is.
 */
#ifndef ESTALO_IO_URING_H
#define ESTALO_IO_URING_H

#include <memory>
#include <napi.h>
#include <vector>

#include "guest_memory.h"
#include "uring.h"

namespace estalo {

/*
 * new IoUring(mapping, depth, eventFd, commands: Float64Array, completions: Int32Array):
 * submit(words): requests that wait for the next submit; reap(): pairs filled; abandon(); close().
 * Thread: the device host's.
 */
class IoUring : public Napi::ObjectWrap<IoUring> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit IoUring(const Napi::CallbackInfo& info);
  ~IoUring() override;

private:
  Napi::Value Submit(const Napi::CallbackInfo& info);
  Napi::Value Reap(const Napi::CallbackInfo& info);
  void Abandon(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);
  /* Prepares the request at `words`; the words it took, or 0 (thrown). */
  size_t Prepare(Napi::Env env, const double* words, size_t available);

  std::shared_ptr<GuestMapping> memory_;
  struct estalo_uring* ring_ = nullptr;
  Napi::Reference<Napi::Float64Array> commands_;
  Napi::Reference<Napi::Int32Array> completions_;
  // What they hold, which stays where it is: asking for it costs as much as the rest of a call.
  const double* words_ = nullptr;
  size_t word_count_ = 0;
  int32_t* pairs_ = nullptr;
  uint32_t pair_count_ = 0;
  std::vector<struct iovec> segments_;
};

} // namespace estalo

#endif
