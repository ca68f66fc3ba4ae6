/* A vCPU: its owner and its runner; see vcpu.h. */
#include "vcpu.h"

#include <algorithm>
#include <cerrno>
#include <node.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

#include "native_error.h"
#include "seccomp.h"

namespace estalo {

RunMapping::~RunMapping() {
  Unmap();
}

int RunMapping::Map(int vcpu_fd, size_t bytes) {
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu_fd, 0);
  if (address == MAP_FAILED) return errno;
  address_ = address;
  bytes_ = bytes;
  return 0;
}

void RunMapping::Unmap() {
  if (address_ != nullptr) munmap(address_, bytes_);
  address_ = nullptr;
}

namespace {

/*
 * What a collected runner lets go of, roughly: the shared block and what of it only this isolate
 * still holds. V8 cannot see it, and a worker's heap alone would hardly ever ask for a collection.
 */
constexpr int64_t kHeldBytes = 1 << 20;

/* The shared control block behind a Uint32Array, or null (thrown) when it has the wrong size. */
template <typename Block> Block* SharedBlock(const Napi::Value& value, size_t bytes) {
  Napi::Uint32Array array = value.As<Napi::Uint32Array>();
  if (array.ByteLength() != bytes) {
    ThrowBug(value.Env(), "a shared block has the wrong size");
    return nullptr;
  }
  // SAFETY: the size was checked just now; the caller keeps a reference to the array.
  return reinterpret_cast<Block*>(array.Data());
}

} // namespace

Napi::Function Vcpu::Define(Napi::Env env) {
  return DefineClass(
      env, "Vcpu",
      {InstanceAccessor<&Vcpu::Fd>("fd"), InstanceMethod<&Vcpu::GetStruct>("getStruct"),
       InstanceMethod<&Vcpu::SetStruct>("setStruct"), InstanceMethod<&Vcpu::SetCpuid2>("setCpuid2"),
       InstanceMethod<&Vcpu::SetMsrs>("setMsrs"), InstanceMethod<&Vcpu::GetMsrs>("getMsrs"),
       InstanceMethod<&Vcpu::KvmclockCtrl>("kvmclockCtrl"), InstanceMethod<&Vcpu::Kick>("kick"),
       InstanceMethod<&Vcpu::Close>("close")});
}

Vcpu::Vcpu(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Vcpu>(info) {
  fd_.Reset(info[0].As<Napi::Number>().Int32Value());
  int error = mapping_.Map(fd_.get(), info[1].As<Napi::Number>().Uint32Value());
  if (error != 0) {
    ThrowErrno(info.Env(), "mmap kvm_run", error);
    return;
  }
  control_ = SharedBlock<struct estalo_vcpu_control>(info[2], sizeof *control_);
  control_array_ = Napi::Persistent(info[2].As<Napi::Uint32Array>());
}

Napi::Value Vcpu::Fd(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), fd_.get());
}

Napi::Value Vcpu::GetStruct(const Napi::CallbackInfo& info) {
  uint32_t which = info[0].As<Napi::Number>().Uint32Value();
  if (which >= ESTALO_VCPU_STRUCT_COUNT) {
    ThrowBug(info.Env(), "no such structure");
    return {};
  }
  auto kind = static_cast<enum estalo_vcpu_struct>(which);
  Napi::Uint8Array bytes = Napi::Uint8Array::New(info.Env(), estalo_kvm_struct_bytes(kind));
  int result = estalo_kvm_get_struct(fd_.get(), kind, bytes.Data());
  if (!Succeeded(info.Env(), "KVM_GET vCPU state", result)) return {};
  return bytes;
}

void Vcpu::SetStruct(const Napi::CallbackInfo& info) {
  uint32_t which = info[0].As<Napi::Number>().Uint32Value();
  Napi::Uint8Array bytes = info[1].As<Napi::Uint8Array>();
  if (which >= ESTALO_VCPU_STRUCT_COUNT) {
    ThrowBug(info.Env(), "no such structure");
    return;
  }
  auto kind = static_cast<enum estalo_vcpu_struct>(which);
  if (bytes.ByteLength() != estalo_kvm_struct_bytes(kind)) {
    {
      ThrowBug(info.Env(), "the structure has another size");
      return;
    }
  }
  Succeeded(info.Env(), "KVM_SET vCPU state", estalo_kvm_set_struct(fd_.get(), kind, bytes.Data()));
}

void Vcpu::SetCpuid2(const Napi::CallbackInfo& info) {
  Napi::Uint32Array words = info[0].As<Napi::Uint32Array>();
  if (words.ElementLength() % 10 != 0) {
    ThrowBug(info.Env(), "ten words for each entry");
    return;
  }
  Succeeded(info.Env(), "KVM_SET_CPUID2",
            estalo_kvm_set_cpuid2(fd_.get(), words.Data(),
                                  static_cast<uint32_t>(words.ElementLength() / 10)));
}

Napi::Value Vcpu::SetMsrs(const Napi::CallbackInfo& info) {
  Napi::Uint32Array indexes = info[0].As<Napi::Uint32Array>();
  Napi::BigUint64Array values = info[1].As<Napi::BigUint64Array>();
  if (indexes.ElementLength() != values.ElementLength()) {
    ThrowBug(info.Env(), "one value for each MSR");
    return {};
  }
  int taken = estalo_kvm_set_msrs(fd_.get(), indexes.Data(), values.Data(),
                                  static_cast<uint32_t>(indexes.ElementLength()));
  if (!Succeeded(info.Env(), "KVM_SET_MSRS", taken)) return {};
  return Napi::Number::New(info.Env(), taken);
}

Napi::Value Vcpu::GetMsrs(const Napi::CallbackInfo& info) {
  Napi::Uint32Array indexes = info[0].As<Napi::Uint32Array>();
  std::vector<uint64_t> values(indexes.ElementLength());
  int taken = estalo_kvm_get_msrs(fd_.get(), indexes.Data(), values.data(),
                                  static_cast<uint32_t>(values.size()));
  if (!Succeeded(info.Env(), "KVM_GET_MSRS", taken)) return {};
  auto read = Napi::BigUint64Array::New(info.Env(), static_cast<size_t>(taken));
  std::copy_n(values.begin(), taken, read.Data());
  return read;
}

void Vcpu::KvmclockCtrl(const Napi::CallbackInfo& info) {
  int result = estalo_kvm_kvmclock_ctrl(fd_.get());
  // A guest that never enabled its clock has nothing to be told: EINVAL says so.
  if (result != -EINVAL) Succeeded(info.Env(), "KVM_KVMCLOCK_CTRL", result);
}

void Vcpu::Kick(const Napi::CallbackInfo& info) {
  Succeeded(info.Env(), "tgkill", estalo_vcpu_kick(mapping_.run(), control_));
}

void Vcpu::Close(const Napi::CallbackInfo&) {
  mapping_.Unmap();
  fd_.Close();
}

Napi::Function VcpuRunner::Define(Napi::Env env) {
  return DefineClass(env, "VcpuRunner",
                     {InstanceAccessor<&VcpuRunner::RunPage>("runPage"),
                      InstanceMethod<&VcpuRunner::Release>("release")});
}

VcpuRunner::VcpuRunner(const Napi::CallbackInfo& info) : Napi::ObjectWrap<VcpuRunner>(info) {
  Napi::Env env = info.Env();
  loop_.vcpu_fd = info[0].As<Napi::Number>().Int32Value();
  int error = mapping_.Map(loop_.vcpu_fd, info[1].As<Napi::Number>().Uint32Value());
  if (error != 0) {
    ThrowErrno(env, "mmap kvm_run", error);
    return;
  }
  loop_.run = mapping_.run();
  Napi::MemoryManagement::AdjustExternalMemory(env, kHeldBytes);
  loop_.control = SharedBlock<struct estalo_vcpu_control>(info[2], sizeof *loop_.control);
  loop_.trace = SharedBlock<struct estalo_trace_header>(
      info[3], sizeof *loop_.trace + ESTALO_TRACE_RECORDS * sizeof(struct estalo_trace_record));
  if (loop_.control == nullptr || loop_.trace == nullptr) return;
  control_array_ = Napi::Persistent(info[2].As<Napi::Uint32Array>());
  trace_array_ = Napi::Persistent(info[3].As<Napi::Uint32Array>());
  // The name that ps, top and Firecracker's clients look for.
  std::string name = info[4].As<Napi::String>().Utf8Value();
  prctl(PR_SET_NAME, name.c_str());
  if (!Succeeded(env, "seccomp for a vCPU's thread", ConfineVcpuThread())) return;
  DefineRun(env, info.This().As<Napi::Object>());
  __atomic_store_n(&loop_.control->tid, static_cast<uint32_t>(syscall(SYS_gettid)),
                   __ATOMIC_SEQ_CST);
}

VcpuRunner::~VcpuRunner() {
  LetGo();
  Napi::MemoryManagement::AdjustExternalMemory(Env(), -kHeldBytes);
}

Napi::Value VcpuRunner::RunPage(const Napi::CallbackInfo& info) {
  if (run_page_.IsEmpty()) {
    // SAFETY: `release` detaches the buffer before the page is unmapped.
    run_page_ =
        Napi::Persistent(Napi::ArrayBuffer::New(info.Env(), mapping_.address(), mapping_.bytes()));
  }
  return run_page_.Value();
}

/*
 * run() is V8's own kind of function: Node-API's way in and out costs as much again as all that
 * JavaScript does for an exit (bench/README.md). It holds its runner, so that it never outlives it.
 */
void VcpuRunner::DefineRun(Napi::Env env, Napi::Object instance) {
  v8::Isolate* isolate = v8::Isolate::GetCurrent();
  v8::Local<v8::Context> context = isolate->GetCurrentContext();
  v8::Local<v8::Function> run;
  if (!v8::Function::New(context, Run, v8::External::New(isolate, this)).ToLocal(&run)) return;
  // SAFETY: napi_value is V8's Local in every release of Node; the handle scope is the caller's.
  Napi::Object function(env, reinterpret_cast<napi_value>(*run));
  function.Set("runner", instance);
  instance.Set("run", function);
}

void VcpuRunner::Run(const v8::FunctionCallbackInfo<v8::Value>& info) {
  // SAFETY: the function holds the JavaScript object whose finaliser frees this runner.
  auto* runner = static_cast<VcpuRunner*>(info.Data().As<v8::External>()->Value());
  int result = runner->mapping_.address() == nullptr ? -EBADF : estalo_vcpu_run(&runner->loop_);
  if (result < 0) {
    v8::Isolate* isolate = info.GetIsolate();
    isolate->ThrowException(node::ErrnoException(isolate, -result, "KVM_RUN"));
    return;
  }
  info.GetReturnValue().Set(result);
}

void VcpuRunner::Release(const Napi::CallbackInfo&) {
  if (!run_page_.IsEmpty()) {
    run_page_.Value().Detach();
    run_page_.Reset();
  }
  LetGo();
}

void VcpuRunner::LetGo() {
  if (mapping_.address() == nullptr) return;
  if (loop_.control != nullptr && loop_.trace != nullptr) {
    estalo_vcpu_complete_record(&loop_, 0);
    __atomic_store_n(&loop_.control->tid, 0u, __ATOMIC_SEQ_CST);
    prctl(PR_SET_NAME, "estalo-idle");
  }
  mapping_.Unmap();
}

} // namespace estalo
