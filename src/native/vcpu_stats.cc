/* KVM's counters of a vCPU; see vcpu_stats.h. */
#include "vcpu_stats.h"

#include <cerrno>
#include <ctime>
#include <string>
#include <unistd.h>
#include <x86intrin.h>

#include "native_error.h"

namespace estalo {

Napi::Function VcpuStats::Define(Napi::Env env) {
  return DefineClass(
      env, "VcpuStats",
      {InstanceMethod<&VcpuStats::Read>("read"), InstanceMethod<&VcpuStats::Close>("close")});
}

VcpuStats::VcpuStats(const Napi::CallbackInfo& info) : Napi::ObjectWrap<VcpuStats>(info) {
  Napi::Env env = info.Env();
  Napi::Array asked = info[1].As<Napi::Array>();
  count_ = asked.Length();
  if (count_ > ESTALO_STATS_MAX) {
    ThrowBug(env, "too many counters");
    return;
  }
  std::array<std::string, ESTALO_STATS_MAX> texts;
  std::array<const char*, ESTALO_STATS_MAX> names = {};
  for (size_t i = 0; i < count_; i++) {
    texts[i] = asked.Get(static_cast<uint32_t>(i)).As<Napi::String>().Utf8Value();
    names[i] = texts[i].c_str();
  }
  int fd = estalo_kvm_stats_fd(info[0].As<Napi::Number>().Int32Value());
  if (!Succeeded(env, "KVM_GET_STATS_FD", fd)) return;
  fd_.Reset(fd);
  Succeeded(env, "read KVM statistics",
            estalo_kvm_find_stats(fd, names.data(), offsets_.data(), count_));
}

void VcpuStats::Read(const Napi::CallbackInfo& info) {
  Napi::Float64Array values = info[0].As<Napi::Float64Array>();
  if (values.ElementLength() < count_) {
    ThrowBug(info.Env(), "room for every counter");
    return;
  }
  for (size_t i = 0; i < count_; i++) {
    uint64_t value = 0;
    if (offsets_[i] != 0 &&
        pread(fd_.get(), &value, sizeof value, static_cast<off_t>(offsets_[i])) < 0) {
      ThrowErrno(info.Env(), "read KVM statistics", errno);
      return;
    }
    values[i] = static_cast<double>(value);
  }
}

void VcpuStats::Close(const Napi::CallbackInfo&) {
  fd_.Close();
}

void SampleClocks(const Napi::CallbackInfo& info) {
  Napi::Uint32Array words = info[0].As<Napi::Uint32Array>();
  if (words.ElementLength() < 4) {
    ThrowBug(info.Env(), "two clocks are four words");
    return;
  }
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  uint64_t tsc = __rdtsc();
  uint64_t ns =
      static_cast<uint64_t>(now.tv_sec) * 1000000000u + static_cast<uint64_t>(now.tv_nsec);
  words[0] = static_cast<uint32_t>(tsc);
  words[1] = static_cast<uint32_t>(tsc >> 32);
  words[2] = static_cast<uint32_t>(ns);
  words[3] = static_cast<uint32_t>(ns >> 32);
}

} // namespace estalo
