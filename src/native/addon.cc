/* The addon's export table; every class has a file of its own. */
#include <malloc.h>
#include <napi.h>
#include <v8.h>

#include "descriptors.h"
#include "event_fd.h"
#include "file_mapping.h"
#include "guest_memory.h"
#include "image_file.h"
#include "io_uring.h"
#include "kvm.h"
#include "native_error.h"
#include "poller.h"
#include "process.h"
#include "seccomp.h"
#include "shared_layout.h"
#include "tap.h"
#include "vcpu.h"
#include "vcpu_stats.h"
#include "vm.h"

namespace estalo {

/*
 * trimMemory(): a full collection of this isolate and the allocator's free pages back to the
 * kernel, for a thread that is about to block for long: it never runs its own idle collection
 * there. Bytecode goes as well, whatever its age: half a MiB of a worker's is of Node's start-up,
 * and what is still needed is compiled again. The flag is the process's: another isolate that
 * collects at the same time compiles a little again, too.
 */
static void TrimMemory(const Napi::CallbackInfo&) {
  v8::V8::SetFlagsFromString("--stress-flush-code");
  v8::Isolate::GetCurrent()->LowMemoryNotification();
  v8::V8::SetFlagsFromString("--no-stress-flush-code");
  malloc_trim(0);
}

static Napi::Object SharedNumbers(Napi::Env env) {
  Napi::Object numbers = Napi::Object::New(env);
  for (size_t i = 0; i < estalo_kvm_number_count; i++) {
    numbers.Set(estalo_kvm_numbers[i].name, Napi::Number::New(env, estalo_kvm_numbers[i].value));
  }
  const struct {
    const char* name;
    size_t value;
  } layout[] = {
      {"VCPU_CONTROL_BYTES", sizeof(struct estalo_vcpu_control)},
      {"VCPU_CONTROL_PENDING_OFFSET", offsetof(struct estalo_vcpu_control, pending)},
      {"VCPU_CONTROL_TID_OFFSET", offsetof(struct estalo_vcpu_control, tid)},
      {"VCPU_CONTROL_WATCH_OFFSET", offsetof(struct estalo_vcpu_control, watch)},
      {"VCPU_CONTROL_EXITS_IO_IN_OFFSET", offsetof(struct estalo_vcpu_control, exits_io_in)},
      {"VCPU_CONTROL_KICKS_OFFSET", offsetof(struct estalo_vcpu_control, kicks)},
      {"TRACE_HEADER_BYTES", sizeof(struct estalo_trace_header)},
      {"TRACE_RECORD_BYTES", sizeof(struct estalo_trace_record)},
      {"TRACE_RECORDS", ESTALO_TRACE_RECORDS},
      {"TRACE_RECORD_ADDRESS_OFFSET", offsetof(struct estalo_trace_record, address)},
      {"TRACE_RECORD_DATA_OFFSET", offsetof(struct estalo_trace_record, data)},
      {"TRACE_RECORD_RIP_OFFSET", offsetof(struct estalo_trace_record, rip)},
      {"TRACE_RECORD_EXIT_TSC_OFFSET", offsetof(struct estalo_trace_record, exit_tsc)},
      {"TRACE_RECORD_GUEST_TICKS_OFFSET", offsetof(struct estalo_trace_record, guest_ticks)},
      {"TRACE_RECORD_HOST_TICKS_OFFSET", offsetof(struct estalo_trace_record, host_ticks)},
      {"TRACE_RECORD_REASON_OFFSET", offsetof(struct estalo_trace_record, reason)},
      {"TRACE_RECORD_SIZE_BYTES_OFFSET", offsetof(struct estalo_trace_record, size_bytes)},
      {"TRACE_RECORD_IS_WRITE_OFFSET", offsetof(struct estalo_trace_record, is_write)},
      {"TRACE_RECORD_COUNT_OFFSET", offsetof(struct estalo_trace_record, count)},
      {"TRACE_RECORD_VCPU_OFFSET", offsetof(struct estalo_trace_record, vcpu)},
      {"TRACE_NO_VCPU", ESTALO_TRACE_NO_VCPU},
      {"WATCH_RIP", ESTALO_WATCH_RIP},
      {"WATCH_TIME", ESTALO_WATCH_TIME},
      {"EXIT_KICKED", ESTALO_EXIT_KICKED},
      {"EXIT_NOTIFY", ESTALO_EXIT_NOTIFY},
  };
  for (const auto& entry : layout) {
    numbers.Set(entry.name, Napi::Number::New(env, static_cast<double>(entry.value)));
  }
  return numbers;
}

static Napi::Object Initialise(Napi::Env env, Napi::Object exports) {
  exports.Set("Kvm", Kvm::Define(env));
  exports.Set("Vm", Vm::Define(env));
  exports.Set("Vcpu", Vcpu::Define(env));
  exports.Set("VcpuRunner", VcpuRunner::Define(env));
  exports.Set("VcpuStats", VcpuStats::Define(env));
  exports.Set("GuestMapping", GuestMappingObject::Define(env));
  exports.Set("FileMapping", FileMapping::Define(env));
  exports.Set("ImageFile", ImageFile::Define(env));
  exports.Set("EventFd", EventFd::Define(env));
  exports.Set("Poller", Poller::Define(env));
  exports.Set("IoUring", IoUring::Define(env));
  exports.Set("Tap", Tap::Define(env));
  exports.Set("endTapWithDescriptor",
              Napi::Function::New<EndTapWithDescriptor>(env, "endTapWithDescriptor"));
  exports.Set("signalEventFd", Napi::Function::New<SignalEventFd>(env, "signalEventFd"));
  exports.Set("sampleClocks", Napi::Function::New<SampleClocks>(env, "sampleClocks"));
  exports.Set("blockDeviceBytes", Napi::Function::New<BlockDeviceBytes>(env, "blockDeviceBytes"));
  exports.Set("socketPair", Napi::Function::New<SocketPair>(env, "socketPair"));
  exports.Set("execute", Napi::Function::New<Execute>(env, "execute"));
  exports.Set("sendDescriptor", Napi::Function::New<SendDescriptor>(env, "sendDescriptor"));
  exports.Set("receiveDescriptor",
              Napi::Function::New<ReceiveDescriptor>(env, "receiveDescriptor"));
  exports.Set("sharedObjects", Napi::Function::New<SharedObjects>(env, "sharedObjects"));
  exports.Set("confine", Napi::Function::New<Confine>(env, "confine"));
  exports.Set("setViolationLog", Napi::Function::New<SetViolationLog>(env, "setViolationLog"));
  exports.Set("trimMemory", Napi::Function::New<TrimMemory>(env, "trimMemory"));
  exports.Set("numbers", SharedNumbers(env));
  Succeeded(env, "sigaction", estalo_vcpu_install_signal());
  return exports;
}

} // namespace estalo

static Napi::Object InitialiseAddon(Napi::Env env, Napi::Object exports) {
  return estalo::Initialise(env, exports);
}

NODE_API_MODULE(estalo, InitialiseAddon)
