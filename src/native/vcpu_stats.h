/*
 * KVM's counters of one vCPU as an object, and the two clocks that exits are timed with.
 *
 * new VcpuStats(vcpuFd, names: string[]): read(values: Float64Array), close(). Thread: the one that
 * made it. It holds a descriptor of its own: the vCPU is freed when both are closed.
 */
#ifndef ESTALO_VCPU_STATS_H
#define ESTALO_VCPU_STATS_H

#include <array>
#include <napi.h>

#include "file_descriptor.h"
#include "kvm_stats.h"

namespace estalo {

class VcpuStats : public Napi::ObjectWrap<VcpuStats> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit VcpuStats(const Napi::CallbackInfo& info);

private:
  void Read(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor fd_;
  size_t count_ = 0;
  std::array<uint64_t, ESTALO_STATS_MAX> offsets_ = {};
};

/* sampleClocks(words: Uint32Array): TSC and CLOCK_MONOTONIC in ns, now, low words first. */
void SampleClocks(const Napi::CallbackInfo& info);

} // namespace estalo

#endif
