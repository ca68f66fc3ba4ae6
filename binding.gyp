{
  "targets": [
    {
      "target_name": "estalo",
      "sources": [
        "src/native/addon.cc",
        "src/native/descriptors.cc",
        "src/native/event_fd.cc",
        "src/native/file_mapping.cc",
        "src/native/guest_memory.cc",
        "src/native/image_file.cc",
        "src/native/io_uring.cc",
        "src/native/kvm.cc",
        "src/native/kvm_core.c",
        "src/native/kvm_stats.c",
        "src/native/poller.cc",
        "src/native/process.cc",
        "src/native/seccomp.cc",
        "src/native/tap.cc",
        "src/native/uring.c",
        "src/native/vcpu.cc",
        "src/native/vcpu_loop.c",
        "src/native/vcpu_stats.cc",
        "src/native/vm.cc"
      ],
      "defines": ["NAPI_VERSION=9", "NODE_ADDON_API_DISABLE_DEPRECATED", "NAPI_DISABLE_CPP_EXCEPTIONS"],
      "cflags": ["-isystem <(node_root_dir)/include/node",
        "-isystem <!(node -p \"require('path').resolve(require('node-addon-api').include_dir)\")",
        "-Wall", "-Wextra", "-Wshadow", "-Werror", "-Wno-cast-function-type"],
      "cflags_c": ["-std=gnu11", "-Wconversion"],
      "cflags_cc": ["-std=c++17", "-fno-exceptions", "-Wno-unused-parameter"],
      "cflags!": ["-Wno-unused-parameter"]
    },
    {
      "target_name": "estalo-jail",
      "type": "executable",
      "sources": [
        "src/native/jail/caretaker.c",
        "src/native/jail/confine.c",
        "src/native/jail/landlock.c",
        "src/native/jail/main.c",
        "src/native/jail/make.c",
        "src/native/jail/mounts.c",
        "src/native/jail/plan.c",
        "src/native/jail/remove.c"
      ],
      "cflags": ["-Wall", "-Wextra", "-Wshadow", "-Werror"],
      "cflags_c": ["-std=gnu11", "-Wconversion"],
      "cflags!": ["-Wno-unused-parameter"],
      "ldflags!": ["-rdynamic"]
    }
  ]
}
