option(SPW_LOCK_CHECK "Assert the lock order at every acquire (not for the preload library)" OFF)
if(SPW_LOCK_CHECK)
  target_compile_definitions(spw_base PUBLIC SPW_LOCK_CHECK)
endif()
