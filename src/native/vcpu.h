/*
 * A vCPU in two classes: `Vcpu` owns its descriptor and sets its state while it does not run
 * (thread: the supervisor's); `VcpuRunner` is a worker thread's hold on it, and runs it. The runner
 * borrows the descriptor: the supervisor closes a `Vcpu` only after its worker has let go.
 */
#ifndef ESTALO_VCPU_H
#define ESTALO_VCPU_H

#include <napi.h>
#include <v8.h>

#include "file_descriptor.h"
#include "kvm_core.h"
#include "vcpu_loop.h"

struct kvm_run;

namespace estalo {

/* The kvm_run page of one vCPU, mapped once for each holder. */
class RunMapping {
public:
  ~RunMapping();
  /* 0 or a positive errno. */
  int Map(int vcpu_fd, size_t bytes);
  void Unmap();
  struct kvm_run* run() const {
    return static_cast<struct kvm_run*>(address_);
  }
  void* address() const {
    return address_;
  }
  size_t bytes() const {
    return bytes_;
  }

private:
  void* address_ = nullptr;
  size_t bytes_ = 0;
};

/*
 * new Vcpu(fd, mmapBytes, control: Uint32Array): fd, getStruct(which): Uint8Array, setStruct(which,
 * bytes), setCpuid2(words), setMsrs(indexes: Uint32Array, values: BigUint64Array): taken,
 * getMsrs(indexes), kvmclockCtrl(), kick(), close().
 */
class Vcpu : public Napi::ObjectWrap<Vcpu> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit Vcpu(const Napi::CallbackInfo& info);

private:
  Napi::Value Fd(const Napi::CallbackInfo& info);
  Napi::Value GetStruct(const Napi::CallbackInfo& info);
  void SetStruct(const Napi::CallbackInfo& info);
  void SetCpuid2(const Napi::CallbackInfo& info);
  Napi::Value SetMsrs(const Napi::CallbackInfo& info);
  Napi::Value GetMsrs(const Napi::CallbackInfo& info);
  void KvmclockCtrl(const Napi::CallbackInfo& info);
  void Kick(const Napi::CallbackInfo& info);
  void Close(const Napi::CallbackInfo& info);

  FileDescriptor fd_;
  RunMapping mapping_;
  Napi::Reference<Napi::Uint32Array> control_array_;
  struct estalo_vcpu_control* control_ = nullptr;
};

/*
 * new VcpuRunner(vcpuFd, mmapBytes, control: Uint32Array, trace: Uint32Array, threadName): runPage:
 * ArrayBuffer, run(): number, release(). Thread: the worker that made it.
 */
class VcpuRunner : public Napi::ObjectWrap<VcpuRunner> {
public:
  static Napi::Function Define(Napi::Env env);
  explicit VcpuRunner(const Napi::CallbackInfo& info);
  ~VcpuRunner() override;

private:
  Napi::Value RunPage(const Napi::CallbackInfo& info);
  static void Run(const v8::FunctionCallbackInfo<v8::Value>& info);
  void DefineRun(Napi::Env env, Napi::Object instance);
  void Release(const Napi::CallbackInfo& info);
  void LetGo();

  RunMapping mapping_;
  Napi::Reference<Napi::Uint32Array> control_array_;
  Napi::Reference<Napi::Uint32Array> trace_array_;
  Napi::Reference<Napi::ArrayBuffer> run_page_;
  struct estalo_vcpu_loop loop_ = {};
};

} // namespace estalo

#endif
