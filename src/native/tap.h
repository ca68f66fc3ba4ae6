/*
 * A tap interface, opened by name, or by a descriptor that was opened by name elsewhere: Ethernet
 * frames with struct virtio_net_hdr_v1 before each, straight between the kernel and guest memory.
 * Source: Linux, Documentation/networking/tuntap.rst, linux/if_tun.h.
 *
 * Chains are given as in devices/virtio/chain-table.ts: segments in two arrays, and for each chain
 * the index after its last segment. No call waits. Thread: the device host's.
 */
#ifndef ESTALO_TAP_H
#define ESTALO_TAP_H

#include <cstdint>
#include <memory>
#include <napi.h>
#include <sys/uio.h>
#include <vector>

#include "file_descriptor.h"
#include "guest_memory.h"

namespace estalo {

/* Which of an interface's queues it is; the numbers are JavaScript's. */
enum class TapQueue { kOnly = 0, kFirst = 1, kFurther = 2 };

/* endTapWithDescriptor(fd): the interface that this is a queue of goes with its last descriptor. */
void EndTapWithDescriptor(const Napi::CallbackInfo& info);

/*
 * new Tap(name or descriptor, status, queue): status is an Int32Array of 2; each call sets [0] to
 * the frames that it lost and [1] to the errno of the last of them (0: none; EAGAIN is no loss).
 * queue: of a name.
 */
class Tap : public Napi::ObjectWrap<Tap> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit Tap(const Napi::CallbackInfo& info);

private:
  struct Chains {
    const double* addresses;
    const uint32_t* lengths;
    const uint32_t* ends;
    uint32_t first;
    uint32_t end;
  };

  Napi::Value Fd(const Napi::CallbackInfo& info);
  /* connect(mapping): the memory that chains lie in. */
  void Connect(const Napi::CallbackInfo& info);
  /* setOffloads(flags): TUN_F_*. */
  void SetOffloads(const Napi::CallbackInfo& info);
  /* setAttached(bool): whether a queue of several takes part. */
  void SetAttached(const Napi::CallbackInfo& info);
  /* send(addresses, lengths, ends, first, end): frames done with. */
  Napi::Value Send(const Napi::CallbackInfo& info);
  /* receive(addresses, lengths, ends, first, end, mergeable, frameBytes, frameBuffers): frames. */
  Napi::Value Receive(const Napi::CallbackInfo& info);
  /* sendBytes(frame): whether it is done with. receiveBytes(into): its length, 0 for none. */
  Napi::Value SendBytes(const Napi::CallbackInfo& info);
  Napi::Value ReceiveBytes(const Napi::CallbackInfo& info);
  /* Gives the descriptor away. */
  Napi::Value Release(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  bool Read(const Napi::CallbackInfo& info, Chains* chains) const;
  /* Adds the segments of one chain to `segments_`; false: outside guest memory, or too many. */
  bool AddSegments(const Chains& chains, uint32_t chain);
  bool IsLost(int error);
  void ClearStatus();

  FileDescriptor fd_;
  std::shared_ptr<GuestMapping> memory_;
  Napi::Reference<Napi::Int32Array> status_;
  std::vector<struct iovec> segments_;
  /* Where the rest of a frame goes that is larger than its buffers. */
  std::vector<uint8_t> overflow_;
};

} // namespace estalo

#endif
