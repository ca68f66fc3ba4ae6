/* /dev/kvm: what this host's KVM can do, and the making of VMs. Thread: the one that made it. */
#ifndef ESTALO_KVM_H
#define ESTALO_KVM_H

#include <napi.h>

#include "file_descriptor.h"

namespace estalo {

/*
 * new Kvm(path): apiVersion, vcpuMmapBytes, checkExtension(n), getSupportedCpuid(): Uint32Array,
 * createVm(): descriptor (owned by the caller, who hands it to Vm), close().
 */
class Kvm : public Napi::ObjectWrap<Kvm> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit Kvm(const Napi::CallbackInfo& info);

private:
  Napi::Value ApiVersion(const Napi::CallbackInfo& info);
  Napi::Value VcpuMmapBytes(const Napi::CallbackInfo& info);
  Napi::Value CheckExtension(const Napi::CallbackInfo& info);
  Napi::Value GetSupportedCpuid(const Napi::CallbackInfo& info);
  Napi::Value CreateVm(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor fd_;
};

} // namespace estalo

#endif
