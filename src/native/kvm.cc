/* /dev/kvm; see kvm.h. */
#include "kvm.h"

#include <cerrno>
#include <fcntl.h>
#include <vector>

#include "kvm_core.h"
#include "native_error.h"

namespace estalo {

Napi::Function Kvm::Define(Napi::Env env) {
  return DefineClass(env, "Kvm",
                     {InstanceAccessor<&Kvm::ApiVersion>("apiVersion"),
                      InstanceAccessor<&Kvm::VcpuMmapBytes>("vcpuMmapBytes"),
                      InstanceMethod<&Kvm::CheckExtension>("checkExtension"),
                      InstanceMethod<&Kvm::GetSupportedCpuid>("getSupportedCpuid"),
                      InstanceMethod<&Kvm::CreateVm>("createVm"),
                      InstanceMethod<&Kvm::Close>("close")});
}

Kvm::Kvm(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Kvm>(info) {
  std::string path = info[0].As<Napi::String>().Utf8Value();
  int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    ThrowErrno(info.Env(), "open", errno);
    return;
  }
  fd_.Reset(fd);
}

Napi::Value Kvm::ApiVersion(const Napi::CallbackInfo& info) {
  int version = estalo_kvm_get_api_version(fd_.get());
  if (!Succeeded(info.Env(), "KVM_GET_API_VERSION", version)) return {};
  return Napi::Number::New(info.Env(), version);
}

Napi::Value Kvm::VcpuMmapBytes(const Napi::CallbackInfo& info) {
  int bytes = estalo_kvm_get_vcpu_mmap_size(fd_.get());
  if (!Succeeded(info.Env(), "KVM_GET_VCPU_MMAP_SIZE", bytes)) return {};
  return Napi::Number::New(info.Env(), bytes);
}

Napi::Value Kvm::CheckExtension(const Napi::CallbackInfo& info) {
  int value = estalo_kvm_check_extension(fd_.get(), info[0].As<Napi::Number>().Int32Value());
  if (!Succeeded(info.Env(), "KVM_CHECK_EXTENSION", value)) return {};
  return Napi::Number::New(info.Env(), value);
}

Napi::Value Kvm::GetSupportedCpuid(const Napi::CallbackInfo& info) {
  // KVM_MAX_CPUID_ENTRIES is 256 in Linux 6.x; more are refused with E2BIG, which is reported.
  constexpr uint32_t kMaxEntries = 256;
  constexpr size_t kWordsPerEntry = 10;
  std::vector<uint32_t> words(kMaxEntries * kWordsPerEntry);
  int count = estalo_kvm_get_supported_cpuid(fd_.get(), words.data(), kMaxEntries);
  if (!Succeeded(info.Env(), "KVM_GET_SUPPORTED_CPUID", count)) return {};
  size_t used = static_cast<size_t>(count) * kWordsPerEntry;
  Napi::Uint32Array entries = Napi::Uint32Array::New(info.Env(), used);
  std::copy_n(words.begin(), used, entries.Data());
  return entries;
}

Napi::Value Kvm::CreateVm(const Napi::CallbackInfo& info) {
  int fd = estalo_kvm_create_vm(fd_.get());
  if (!Succeeded(info.Env(), "KVM_CREATE_VM", fd)) return {};
  return Napi::Number::New(info.Env(), fd);
}

void Kvm::Close(const Napi::CallbackInfo&) {
  fd_.Close();
}

} // namespace estalo
