# These tests need root or access to /dev/userfaultfd, and cannot run under a sanitizer.
set(test_labels host)
