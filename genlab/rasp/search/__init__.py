"""The shortest RASP-L program for a task, found by enumeration over a finite grammar."""
