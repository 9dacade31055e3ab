‰NC1

#Eg‰«Íï<r3"TILEabccý0