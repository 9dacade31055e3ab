‰NC1

#Eg‰«Íï<@ASnR­TILEabccý0